"""Any data set as a COCO folder: ``train.json``, ``val.json`` and ``images/train``, ``images/val``, which this and
most other tools read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from nas.data.dataset import DetectionDataset, Sample
from nas.data.source import find_data
from search_spaces.errors import InputError

Watch = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def write_coco(
    spec: str | Path, out: Path, link: bool = False, watch: Watch = lambda done, total: None, cache: Path | None = None
) -> list[DetectionDataset]:
    """Write all splits of ``spec`` into the new folder ``out`` and return the splits that were read.

    What reading leaves out (broken images, boxes without area) is left out here too. The folder appears complete or
    not at all.

    Args:
        spec: what a user writes after ``--data``.
        out: the folder to make.
        link: hard-link the image files and do not copy them; a change of one file is then a change of the other.
        watch: called with (images done, images in all).
        cache: folder of generated data.

    Raises:
        InputError: ``out`` exists or cannot be written, or there is no data set with boxes.
    """
    if os.path.lexists(out):
        raise InputError(f"--out {out}", "a folder that does not exist yet")
    found = find_data(spec, cache)
    if not found.annotated:
        raise InputError(f"{spec} has images but no annotations", "a data set with boxes")
    splits = [found.read(split) for split in found.splits]
    if not splits:
        raise InputError(f"{spec} has no split", found.looked_for)
    partial = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        _write_all(splits, partial, link, watch)
        partial.chmod(0o755)  # mkdtemp's 0700 would hide the folder from everyone else
        os.rename(partial, out)
    except OSError as error:
        raise InputError(
            f"cannot write {out} ({error.strerror or error})", "a folder with write permission and free space"
        ) from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return splits


def _write_all(splits: Sequence[DetectionDataset], folder: Path, link: bool, watch: Watch) -> None:
    done, total = 0, sum(len(data) for data in splits)
    for data in splits:
        images = folder / "images" / data.split
        images.mkdir(parents=True)
        names = _names(data.samples)
        for sample in data.samples:
            _place(sample.path, images / names[sample.id], link)
            done += 1
            watch(done, total)
        (folder / f"{data.split}.json").write_text(data.coco(names).text(), "utf-8")


def _names(samples: Sequence[Sample]) -> dict[int, str]:
    """Id -> a name of its own; where images of several folders have the same name, the later ones get a number.
    Case does not tell two names apart."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for sample in samples:
        name, number = sample.path.name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{sample.path.stem}-{number}{sample.path.suffix}"
        taken.add(name.casefold())
        names[sample.id] = name
    return names


def _place(source: Path, target: Path, link: bool) -> None:
    if link:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another disk, or one that knows no links
            pass
    shutil.copyfile(source, target)
