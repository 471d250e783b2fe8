"""Pascal VOC: ``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/Main/train.txt`` (Everingham et al., doi:10.1007/s11263-009-0275-4, and the devkit).

Boxes are corners in pixels that count from 1 and belong to the box, so that (1, 1, width, height) is the whole picture. An object marked ``difficult`` is
left out of training, and ignored in evaluation, as the challenge has it.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree.ElementTree import Element

from nas.data.dataset import Annotation, DetectionDataset, Sample, choose, make_sample
from nas.data.formats import DataFormat, split_files
from nas.data.pictures import BrokenImage, annotated_size, pictures_in
from nas.data.problems import Problems
from nas.data.texts import class_names, lines_of
from search_spaces.errors import InputError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type before any of its entities is read: none of VOC's files has one, and entities can name files or grow without bound."""

    def doctype(self, name: str, *_: object) -> None:
        raise ValueError(f"it declares a document type ({name[:40]}), which is not read")


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class _File:
    """One annotation file: size of its picture (what the file says, 0 where nothing), objects, and what was wrong with others of its objects."""

    size: tuple[float, float]
    objects: tuple[_Object, ...]
    flaws: tuple[str, ...]


class Voc(DataFormat):
    """A folder as in VOCdevkit (``VOCdevkit/VOC2012``); classes are the lines of ``classes.txt``, else all names in the annotations, sorted."""

    kind = "Pascal VOC"
    looked_for = "Annotations/*.xml with ImageSets/Main/train.txt and val.txt (Pascal VOC)"

    def __init__(self, root: Path, lists: Mapping[str, Path]) -> None:
        super().__init__(root.resolve().name, lists)
        self._root = root
        self._lists = lists
        self._files: dict[str, _File | InputError] = {}

    @classmethod
    def find(cls, path: Path) -> Voc | None:
        roots = [root for root in (path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*"))) if _has_annotations(root)]
        if len(roots) > 1:
            raise InputError(f"{len(roots)} VOC data sets in {path}", "one", f"name the one you mean: {', '.join(map(str, roots))}")
        return cls(roots[0], split_files(roots[0], "ImageSets/Main/{split}.txt")) if roots else None

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        stems = self._listed[split]
        if not stems:
            raise InputError(f"{self._lists[split]} lists no picture", "one name a line, without suffix")
        problems = Problems()
        samples = [self._sample(i + 1, stems[i], self._classes, problems) for i in choose(len(stems), limit)]
        return DetectionDataset(self.name, split, self._classes, [s for s in samples if s is not None], problems)

    def strays(self) -> Problems:
        """Annotation files without a picture, pictures without an annotation file, and those that are in no list."""
        problems, listed = Problems(), {stem for stems in self._listed.values() for stem in stems}
        annotated = {path.stem: path for path in sorted((self._root / "Annotations").glob("*.xml"))}
        for stem, path in self._pictures.items():
            if stem not in annotated:
                problems.add("picture without annotations", path, f"no Annotations/{stem}.xml, not used")
        for stem, path in annotated.items():
            if stem not in self._pictures:
                problems.add("annotations without a picture", path, "not used")
            elif stem not in listed:
                problems.add("picture in no split", self._pictures[stem], "in no list of ImageSets/Main, not used")
        return problems

    @cached_property
    def _listed(self) -> dict[str, list[str]]:
        """Split -> the names in its list, each once."""
        return {split: list(dict.fromkeys(lines_of(path))) for split, path in self._lists.items()}

    @cached_property
    def _pictures(self) -> dict[str, Path]:
        folders = [folder for folder in (self._root / "JPEGImages", self._root / "images") if folder.is_dir()]
        return {path.stem: path for folder in reversed(folders) for path in pictures_in(folder)}

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        named = class_names(self._root / "classes.txt")
        if named:
            return named
        files = [self._file(stem) for stems in self._listed.values() for stem in stems]
        found = tuple(sorted({object.name for file in files if isinstance(file, _File) for object in file.objects}))
        if not found:
            broken = next((str(file) for file in files if isinstance(file, InputError)), "")
            raise InputError(f"no object in the {len(files)} annotation files of {self._root}", "at least one", broken)
        return found

    def _file(self, stem: str) -> _File | InputError:
        """What the annotation file of a picture holds, or what is wrong with it; read once."""
        if stem not in self._files:
            try:
                self._files[stem] = _read(self._root / "Annotations" / f"{stem}.xml")
            except InputError as error:
                self._files[stem] = error
        return self._files[stem]

    def _sample(self, id: int, stem: str, classes: Sequence[str], problems: Problems) -> Sample | None:
        path, where = self._pictures.get(stem), self._root / "Annotations" / f"{stem}.xml"
        if path is None:
            problems.add("missing picture", self._root / "JPEGImages" / stem, "no such picture, skipped")
            return None
        file = self._file(stem)
        if isinstance(file, InputError):
            problems.add("broken annotation file" if where.is_file() else "missing annotation file", where, f"{file}, its picture is skipped")
            return None
        try:
            size = annotated_size(path, *file.size)
        except BrokenImage as error:
            problems.add("broken picture", path, f"{error.reason}, skipped")
            return None
        for flaw in file.flaws:
            problems.add("malformed object", where, f"{flaw}, skipped")
        for name in [object.name for object in file.objects if object.name not in classes]:
            problems.add("annotation of an unknown class", where, f"class {name!r} is none of {len(classes)}, skipped")
        known = [Annotation(o.box, classes.index(o.name), crowd=o.difficult) for o in file.objects if o.name in classes]
        return make_sample(id, path, size, known, problems, where=where)


def _has_annotations(root: Path) -> bool:
    return any((root / "Annotations").glob("*.xml"))


def _read(path: Path) -> _File:
    try:
        root = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_NoDoctype()))
    except FileNotFoundError:
        raise InputError("no such file", "an annotation file") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", "an annotation file") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: a document type, an encoding nobody knows
        raise InputError(f"is not XML that is read here ({error})", "a VOC annotation file") from None
    if root.tag != "annotation":
        raise InputError(f"holds <{root.tag[:40]}>", "<annotation>")
    objects: list[_Object] = []
    flaws: list[str] = []
    for number, entry in enumerate(root.iterfind("object"), 1):
        name, corners = (entry.findtext("name") or "").strip(), entry.find("bndbox")
        if not name or corners is None:
            flaws.append(f"object {number} has no {'name' if not name else 'bndbox'}")
            continue
        x1, y1, x2, y2 = (_number(corners, corner) for corner in _CORNERS)
        objects.append(_Object(name, (x1 - 1, y1 - 1, x2, y2), (entry.findtext("difficult") or "").strip() == "1"))
    width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
    return _File((width, height), tuple(objects), tuple(flaws))


def _number(entry: Element, path: str) -> float:
    """The number at ``path``; NaN where there is none, which the checks of boxes and sizes take for what it is."""
    try:
        return float(entry.findtext(path) or "")
    except ValueError:
        return math.nan
