"""A detector over many images and videos: in batches, reported in the order of the inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core.reporter import Reporter
from nas.data.images import BrokenImage, read_image
from nas.inference.inputs import is_video
from nas.inference.model import Model
from nas.inference.nms import Suppression
from nas.inference.results import Result
from nas.inference.video import Video, VideoWriter
from nas.inference.writers import WRITERS, DrawnResults, ResultWriter
from search_spaces.errors import InputError

NAMED = 20
"""Objects listed of an image."""


@dataclass
class PredictionJob:
    """What to do with each image. ``labels``: these classes only; ``save``: names of
    :data:`nas.inference.writers.WRITERS`."""

    model: Model
    folder: Path
    suppression: Suppression
    labels: Sequence[int] | None
    save: Sequence[str]
    batch: int
    reporter: Reporter
    failed: int = 0
    _names: set[str] = field(default_factory=set)

    def run(self, paths: Sequence[Path]) -> None:
        """All of them; a broken one is named, counted in ``failed`` and passed over. What is for all together is
        written however it ends."""
        writers = [WRITERS[name](self.folder, self.model.classes) for name in self.save]
        if "drawn" in self.save:  # drawn beside its image or video, a file must not take its place
            self._names |= {path.stem for path in paths if path.parent.resolve() == self.folder.resolve()}
        done, total = 0, sum(_size(path) for path in paths)
        with ExitStack() as stack:
            watch = stack.enter_context(self.reporter.progress("predict")) if self.reporter.interactive else None
            stack.callback(self._close, writers)
            for part in _parts(paths, self.batch):
                for finished in self._video(part[0], writers) if is_video(part[0]) else self._images(part, writers):
                    done += finished
                    if watch:
                        watch(done, max(total, done))

    def _close(self, writers: Sequence[ResultWriter]) -> None:
        for path in (path for writer in writers for path in writer.close()):
            self.reporter.note(f"written: {path}")

    def _images(self, paths: Sequence[Path], writers: Sequence[ResultWriter]) -> Iterator[int]:
        read: list[NDArray[np.uint8] | InputError] = []
        for path in paths:
            try:
                read.append(_read(path))
            except InputError as error:
                read.append(error)
        images = [image for image in read if not isinstance(image, InputError)]
        found = iter(self.model.detect(images, self.suppression, self.labels))
        for path, image in zip(paths, read, strict=True):
            if isinstance(image, InputError):
                self._fail(path, image)
            else:
                result = Result(image, next(found), self.model.classes, path)
                name = self._name(path)
                files = [file for writer in writers if (file := writer.add(name, result))]
                self.reporter.note(f"{path}{''.join(f' -> {file}' for file in files)}: {_summary(result)}")
        yield len(paths)

    def _video(self, path: Path, writers: Sequence[ResultWriter]) -> Iterator[int]:
        try:
            video = Video(path)
        except InputError as error:
            self._fail(path, error)
            yield 1
            return
        name, frames, objects = self._name(path), 0, 0
        with ExitStack() as stack:
            drawn = (
                stack.enter_context(VideoWriter(self.folder, name, video.fps))
                if any(isinstance(w, DrawnResults) for w in writers)
                else None
            )
            stream = video.numbered()
            while part := list(islice(stream, self.batch)):
                found = self.model.detect([image for _, image in part], self.suppression, self.labels)
                for (index, image), detections in zip(part, found, strict=True):
                    result = Result(image, detections, self.model.classes, path)
                    for writer in writers:
                        writer.add(name, result, index)
                    if drawn:
                        drawn.write(result.draw())
                    frames, objects = frames + 1, objects + len(result)
                yield len(part)
        if not frames:
            self._fail(path, InputError(f"{path}: no frame could be read"))
            return
        written = f" -> {drawn.path}" if drawn else ""
        self.reporter.note(f"{path}{written}: {frames} frames, {objects / frames:.1f} objects in each")
        if video.lost:
            self.reporter.warning(f"{path}: {video.lost} of {frames + video.lost} frames could not be decoded")

    def _fail(self, path: Path, error: InputError) -> None:
        self.failed += 1
        self.reporter.note(f"{path}: {error.reason}" if isinstance(error, BrokenImage) else str(error))

    def _name(self, path: Path) -> str:
        """A name for the files of an image that no other has: two folders may have images of one name."""
        numbered = (f"{path.stem}-{i}" for i in count(2))
        name = next(name for name in chain([path.stem], numbered) if name not in self._names)
        self._names.add(name)
        return name


def _parts(paths: Sequence[Path], batch: int) -> Iterator[list[Path]]:
    """At most ``batch`` images, or one video."""
    part: list[Path] = []
    for path in paths:
        if part and (is_video(path) or is_video(part[0]) or len(part) == batch):
            yield part
            part = []
        part.append(path)
    if part:
        yield part


def _read(path: Path) -> NDArray[np.uint8]:
    """RGB pixels of a file; InputError for a folder, which is one without images."""
    if path.is_dir():
        raise InputError(f"{path}: no image or video in this folder", hint="--recursive looks into the folders in it")
    return read_image(path)


def _size(path: Path) -> int:
    """Images in it, for the progress."""
    try:
        return max(1, Video(path).count) if is_video(path) else 1
    except InputError:
        return 1


def _summary(result: Result) -> str:
    surest = list(zip(result.names, result.scores, strict=True))[:NAMED]
    named = ", ".join(f"{name} {score:.2f}" for name, score in surest) + (", …" if len(result) > NAMED else "")
    return f"{len(result)} found" + (f" ({named})" if named else "")
