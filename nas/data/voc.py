"""Pascal VOC: ``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/Main/train.txt`` (Everingham et al.,
doi:10.1007/s11263-009-0275-4, and the devkit).

Boxes are corners in pixels that count from 1 and belong to the box, so that (1, 1, width, height) is the whole
image. An object marked ``difficult`` is left out of training, and ignored in evaluation, as the challenge has it.
"""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree.ElementTree import Element

from nas.data.dataset import Annotation, DetectionDataset, Sample, choose, make_sample
from nas.data.formats import DataFormat, split_files
from nas.data.images import BrokenImage, annotated_size, images_in
from nas.data.problems import Problems
from nas.data.texts import class_names, lines_of
from nas.data.values import flag_of
from nas.data.walk import any_case, files_in
from search_spaces.errors import InputError
from search_spaces.foreign_files import MIB, UnreadableFile, read_bytes
from search_spaces.text import brief

_CORNERS = ("xmin", "ymin", "xmax", "ymax")

MAX_BYTES = 8 * MIB
"""Of one annotation file; one object takes about 300 bytes."""


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type before any of its entities is read: none of VOC's files has one, and entities can name
    files or grow without bound."""

    def doctype(self, name: str, *_: object) -> None:
        raise ValueError(f"it declares a document type ({name[:40]}), which is not read")


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class _File:
    """One annotation file: size of its image (what the file says, 0 where nothing), objects, and what was wrong
    with others of its objects."""

    size: tuple[float, float]
    objects: tuple[_Object, ...]
    flaws: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where a split is: its annotation files, its images, the list of those that belong to it (without one all
    do)."""

    annotations: Path
    images: Path
    listing: Path | None = None

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """The names of its images without suffix, each once."""
        found = lines_of(self.listing) if self.listing else [path.stem for path in files_in(self.annotations, ".xml")]
        return tuple(dict.fromkeys(found))

    def annotation(self, stem: str) -> Path:
        """Return the annotation file of an image."""
        return any_case(self.annotations / f"{stem}.xml")


class Voc(DataFormat):
    """A folder as in VOCdevkit (``VOCdevkit/VOC2012``), or a folder for each split with xml beside images.

    Classes are the lines of ``classes.txt``, else all names in the annotations, sorted.
    """

    kind = "Pascal VOC"
    looked_for = (
        "Annotations/*.xml with ImageSets/Main/train.txt and val.txt,"
        " or train/*.xml and valid/*.xml beside images (Pascal VOC)"
    )

    def __init__(self, root: Path, places: Mapping[str, _Place]) -> None:
        super().__init__(root.resolve().name, places)
        self._root = root
        self._places = places
        self._files: dict[Path, _File | InputError] = {}
        self._images: dict[Path, dict[str, Path]] = {}

    @classmethod
    def find(cls, path: Path) -> Voc | None:
        """Return the data set at ``path``, None if there is none of this format.

        Raises InputError if a description of one is malformed or ambiguous.
        """
        roots = [
            root
            for root in (path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*")))
            if _has_xml(root / "Annotations")
        ]
        if len(roots) > 1:
            raise InputError(
                f"{len(roots)} VOC data sets in {path}", "one", f"name the one you mean: {', '.join(map(str, roots))}"
            )
        if roots:
            (root,) = roots
            images = next(
                (folder for folder in (root / "JPEGImages", root / "images") if os.path.isdir(folder)),
                root / "JPEGImages",
            )
            lists = split_files(root, "ImageSets/Main/{split}.txt")
            return cls(root, {split: _Place(root / "Annotations", images, file) for split, file in lists.items()})
        folders = {split: folder for split, folder in split_files(path, "{split}").items() if _has_xml(folder)}
        return cls(path, {split: _Place(folder, folder) for split, folder in folders.items()}) if folders else None

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        """Read one split. Raises InputError if it cannot be used."""
        place = self._places[split]
        if not place.stems:
            raise InputError(f"{place.listing} lists no image", "one name a line, without suffix")
        problems = Problems()
        samples = [self._sample(i + 1, place, place.stems[i], problems) for i in choose(len(place.stems), limit)]
        return DetectionDataset(self.name, split, self._classes, [s for s in samples if s is not None], problems)

    def strays(self) -> Problems:
        """Return annotation files without an image, images without an annotation file, and those that are in no list."""
        problems, listed = (
            Problems(),
            {place.annotation(stem) for place in self._places.values() for stem in place.stems},
        )
        for source, folder in dict.fromkeys((place.annotations, place.images) for place in self._places.values()):
            images = self._images_in(folder)
            files = {path.stem: path for path in files_in(source, ".xml")}
            for path in images_in(folder):
                if (used := images.get(path.stem, path)) != path:
                    problems.add("image of the name of another", path, f"not used: {used.name} has its annotations")
            for stem in sorted(images.keys() - files):
                problems.add("image without annotations", images[stem], f"no {source.name}/{stem}.xml, not used")
            for stem, path in files.items():
                if stem not in images:
                    problems.add("annotations without an image", path, "not used")
                elif path not in listed:
                    problems.add("image in no split", images[stem], "in no list of ImageSets/Main, not used")
        return problems

    def _images_in(self, folder: Path) -> dict[str, Path]:
        """Name without suffix -> image, of several the one least deep; looked up once."""
        if folder not in self._images:
            found = self._images[folder] = {}
            for path in sorted(images_in(folder), key=lambda path: len(path.parts)):
                found.setdefault(path.stem, path)
        return self._images[folder]

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        named = class_names(self._root / "classes.txt")
        if named:
            return named
        files = [self._file(place.annotation(stem)) for place in self._places.values() for stem in place.stems]
        found = tuple(sorted({object.name for file in files if isinstance(file, _File) for object in file.objects}))
        if not found:
            errors = (f"{path}: {file}" for path, file in self._files.items() if isinstance(file, InputError))
            raise InputError(
                f"no object in the {len(files)} annotation files of {self._root}", "at least one", next(errors, "")
            )
        return found

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self._classes)}

    def _file(self, path: Path) -> _File | InputError:
        """What an annotation file holds, or what is wrong with it; read once."""
        if path not in self._files:
            try:
                self._files[path] = _read(path)
            except InputError as error:
                self._files[path] = error
        return self._files[path]

    def _sample(self, id: int, place: _Place, stem: str, problems: Problems) -> Sample | None:
        path, where = self._images_in(place.images).get(stem), place.annotation(stem)
        if path is None:
            problems.add("missing image", place.images / stem, "no such image, skipped")
            return None
        file = self._file(where)
        if isinstance(file, InputError):
            problems.add(
                "broken annotation file" if os.path.isfile(where) else "missing annotation file",
                where,
                f"{file}, its image is skipped",
            )
            return None
        try:
            size = annotated_size(path, *file.size)
        except BrokenImage as error:
            problems.add("broken image", path, f"{error.reason}, skipped")
            return None
        return make_sample(id, path, size, self._objects(file, where, problems), problems, where=where)

    def _objects(self, file: _File, where: Path, problems: Problems) -> list[Annotation]:
        """The objects whose class is known; the others are counted as problems."""
        for flaw in file.flaws:
            problems.add("malformed object", where, f"{flaw}, skipped")
        found = []
        for entry in file.objects:
            label = self._index.get(entry.name)
            if label is None:
                message = f"class {brief(entry.name)} is none of {len(self._classes)}, skipped"
                problems.add("annotation of an unknown class", where, message)
            else:
                found.append(Annotation(entry.box, label, crowd=entry.difficult))
        return found


def _has_xml(folder: Path) -> bool:
    return bool(files_in(folder, ".xml"))


def _read(path: Path) -> _File:
    try:
        data = read_bytes(path, MAX_BYTES)
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except UnreadableFile as error:
        raise InputError("no such file" if error.missing else error.reason, "an annotation file") from None
    except (
        ElementTree.ParseError,
        ValueError,
        LookupError,
    ) as error:  # the last two: a document type, an encoding nobody knows
        raise InputError(f"is not XML that is read here ({str(error)[:120]})", "a VOC annotation file") from None
    if root.tag != "annotation":
        raise InputError(f"holds <{root.tag[:40]}>", "<annotation>")
    objects: list[_Object] = []
    flaws: list[str] = []
    for number, entry in enumerate(root.iterfind("object"), 1):
        name, corners = (entry.findtext("name") or "").strip(), entry.find("bndbox")
        if not name or corners is None:
            flaws.append(f"object {number} has no {'name' if not name else 'bndbox'}")
            continue
        difficult = flag_of(entry.findtext("difficult"))
        if difficult is None:
            flaws.append(f"object {number} has difficult {brief(entry.findtext('difficult'))}")
            continue
        x1, y1, x2, y2 = (_number(corners, corner) for corner in _CORNERS)
        objects.append(_Object(name, (x1 - 1, y1 - 1, x2, y2), difficult))
    width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
    return _File((width, height), tuple(objects), tuple(flaws))


def _number(entry: Element, path: str) -> float:
    """The number at ``path``; NaN where there is none, which the checks of boxes and sizes take for what it is."""
    try:
        return float(entry.findtext(path) or "")
    except ValueError:
        return math.nan
