"""Opening of data sets: ``open_data("shop/")`` returns the train and the val split of a specification (``--data``).

A specification is one of

- ``digits``: the embedded data set, 2,000 + 400 images of 128 px. ``digits@160:train=500,val=100,seed=1``: 160 px and
  other counts; each part is optional. A folder of that name is ``./digits``.
- a folder with a COCO, Pascal VOC or YOLO data set. :data:`nas.data.formats.FORMATS` lists the formats,
  ``docs/data.md`` the supported layouts.
- a yaml that describes a COCO or YOLO data set. Relative paths in a yaml are relative to the yaml.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nas.data.coco import Coco
from nas.data.dataset import DetectionDataset, choose, same_classes
from nas.data.digits import DigitsOptions, digits_folder
from nas.data.formats import DataFormat, expected_formats
from nas.data.recognise import deeper, part_of_a_data_set, recognise, unsplit
from nas.data.transforms import Augmentation
from nas.data.yaml_files import SUFFIXES
from search_spaces.errors import InputError
from search_spaces.text import brief

_DIGITS = re.compile(r"digits(?:@(?P<size>[^:]*))?(?::(?P<options>.*))?")

OnProblem = Callable[[str], object]
"""Called with one line per kind of problem and per remark on a data set."""


def ignore(line: str) -> None:
    """Take no notice of a problem: the default of :func:`open_data`. Problems stay in ``problems`` of each split."""


@dataclass(frozen=True, eq=False)
class DataPair:
    """The splits of a data set that a training needs, with equal classes in equal order.

    Attributes:
        name: of the data set.
        train: the split that is trained on.
        val: the split that accuracy is measured on.
        augmentation: the random changes that suit the images.

    Raises InputError if the classes differ or a split has no box that counts (all are ignored, or there is none).
    """

    name: str
    train: DetectionDataset
    val: DetectionDataset
    augmentation: Augmentation = Augmentation.DEFAULT

    def __post_init__(self) -> None:
        same_classes(self.train.classes, self.val.classes, self.val.split)
        if self.train.classes != self.val.classes:
            raise InputError(
                f"train orders the classes {brief(self.train.classes)}, val {brief(self.val.classes)}",
                "the same order in both",
            )
        for data in (self.train, self.val):
            if data.boxes == data.ignored:
                ignored = f" ({data.ignored} ignored: crowd or difficult)" if data.ignored else ""
                raise InputError(
                    f"the {data.split} split of {self.name} has no usable box{ignored}",
                    "at least one",
                    "; ".join(data.problems.lines()),
                )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their labels."""
        return self.train.classes

    def interpolated(self, how: str) -> DataPair:
        """Return the data set with images that are shrunk as ``how`` says
        (:data:`nas.data.transforms.INTERPOLATIONS`)."""
        if how == self.train.interpolation == self.val.interpolation:
            return self
        return replace(self, train=self.train.interpolated(how), val=self.val.interpolated(how))

    def augmented(self, augmentation: Augmentation) -> DataPair:
        """Return the data set with another augmentation."""
        return self if augmentation == self.augmentation else replace(self, augmentation=augmentation)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with the content of either split."""
        return hashlib.sha256(f"{self.train.fingerprint} {self.val.fingerprint}".encode()).hexdigest()[:16]

    def problems(self) -> list[str]:
        """Return one line per kind of problem and split, with its count and first case."""
        return [f"{d.split}: {line}" for d in (self.train, self.val) for line in d.problems.lines()]

    def remarks(self) -> list[str]:
        """Return one line per fact of each split that is no defect but that its owner may not expect."""
        return [f"{d.split}: {line}" for d in (self.train, self.val) for line in d.remarks()]


def open_data(
    spec: str | Path,
    *,
    val: str = "val",
    limit: int | None = None,
    cache: Path | None = None,
    on_problem: OnProblem = ignore,
) -> DataPair:
    """Open the data set that ``spec`` names (module docstring).

    Args:
        spec: what a user writes after ``--data``.
        val: the split that accuracy is measured on; "test" where the data set has one.
        limit: at most so many images of each split, a random choice that is the same each time.
        cache: folder of generated data; by default :func:`cache_folder`.
        on_problem: called with each line of :meth:`DataPair.problems` and :meth:`DataPair.remarks`.

    Raises:
        InputError: there is no data set (the error lists what was looked for), a split is missing or cannot be read,
            or the splits do not fit together.
    """
    choose(1, limit)
    found = find_data(spec, cache)
    check_splits(found, spec, ("train", val))
    augmentation = Augmentation.UNMIRRORED if is_digits(spec) else Augmentation.DEFAULT
    data = DataPair(found.name, found.read("train", limit=limit), found.read(val, limit=limit), augmentation)
    report_shared_images(data)
    for line in (*data.problems(), *data.remarks()):
        on_problem(line)
    return data


def open_split(
    spec: str | Path, split: str, *, limit: int | None = None, cache: Path | None = None
) -> DetectionDataset:
    """Open one split: ``train``, ``val``, ``test`` where there is one, ``images`` of a folder without annotations.

    Raises:
        InputError: there is no data set, it has no such split, or the split cannot be read.
    """
    choose(1, limit)
    found = find_data(spec, cache)
    if split not in found.splits:
        raise InputError(f"no {split} split in {spec}", f"one of {', '.join(found.splits) or 'none, it has no split'}")
    return found.read(split, limit=limit)


def report_shared_images(data: DataPair) -> None:
    """Add the files that both splits use to the problems of ``val``."""
    shared = {s.path.resolve() for s in data.train.samples} & {s.path.resolve() for s in data.val.samples}
    if shared:
        data.val.problems.add(
            "image in both splits", min(shared), "also in train: accuracy on it is no evidence", len(shared)
        )


def find_data(spec: str | Path, cache: Path | None = None) -> DataFormat:
    """Find the data set that ``spec`` names without reading it.

    Raises:
        InputError: there is nothing at ``spec``, or nothing of a known format.
    """
    if isinstance(spec, str) and (match := _DIGITS.fullmatch(spec)):
        folder = digits_folder(parse_digits(spec, match), cache or cache_folder())
        return Coco(spec, {split: (folder / f"{split}.json", [folder / "images"]) for split in ("train", "val")})
    if "://" in str(spec) or not str(spec).strip():  # Path would make it http:/…, or the current folder
        what = f"{spec} is an address" if str(spec).strip() else "a data set without a name"
        raise InputError(what, "digits, or a folder or .yaml on this machine", "an unset variable of a shell is empty")
    path = Path(spec).expanduser()
    if not os.path.exists(path) and path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"no data set at {str(spec)!r} (nothing there)",
            "digits, digits@160, a folder with a COCO, YOLO or Pascal VOC data set, or a .yaml that describes one",
        )
    return recognise(path)


def check_splits(found: DataFormat, spec: str | Path, needed: tuple[str, ...] = ("train", "val")) -> None:
    """Check that a data set has the splits ``needed``.

    Raises:
        InputError: it lacks one, or has images without annotations.
    """
    folder = Path(spec).expanduser()
    if not found.annotated:
        inside = deeper(folder)
        if not inside and (part := part_of_a_data_set(folder)):
            raise part
        raise InputError(
            f"{spec} has images but no annotations, good for prediction only",
            expected_formats(),
            inside or unsplit(folder),
        )
    if lacking := [split for split in needed if split not in found.splits]:
        has = f"it has {' and '.join(found.splits)}" if found.splits else "it has none"
        raise InputError(f"no {' and no '.join(lacking)} split in {spec} ({has})", found.looked_for, unsplit(folder))


def is_digits(spec: str | Path) -> bool:
    """Return whether ``spec`` names the embedded data set."""
    return isinstance(spec, str) and _DIGITS.fullmatch(spec) is not None


def cache_folder() -> Path:
    """Return the folder of generated data: ``NAS_CACHE``, else ``nas`` in the user's cache folder (XDG base directory
    specification)."""
    if folder := os.environ.get("NAS_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas"


def parse_digits(spec: str, match: re.Match[str]) -> DigitsOptions:
    """Read ``digits@SIZE:train=N,val=N,seed=N``, all parts optional and whole numbers.

    Raises:
        InputError: an option is unknown, given twice, or no whole number in its range.
    """
    values = {"size": match["size"]} if match["size"] is not None else {}
    for part in match["options"].split(",") if match["options"] is not None else []:
        key, equals, value = part.partition("=")
        if key not in ("train", "val", "seed") or not equals or key in values:
            raise InputError(
                f"option {part!r} of data {spec!r}", "train=N, val=N or seed=N, each once, separated by commas"
            )
        values[key] = value
    numbers = {}
    for key, value in values.items():
        if not value.isascii() or not value.isdecimal() or len(value) > 20:
            raise InputError(
                f"{key} {value[:40]!r} of data {spec!r}",
                "a whole number",
                "for example digits@160:train=500,val=100,seed=1",
            )
        numbers[key] = int(value)
    return DigitsOptions(**numbers)
