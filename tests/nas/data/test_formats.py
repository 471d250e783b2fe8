"""The formats: each is found by what is there, read alike, and lists what nothing uses."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from nas.data.dataset import Annotation, DetectionDataset, make_sample
from nas.data.folder import read_images
from nas.data.formats import FORMATS, DataFormat
from nas.data.loader import Loader, LoaderConfig
from nas.data.problems import Problems
from nas.data.recognise import recognise
from nas.data.source import open_data, open_split
from nas.inference.coco_metrics import Detections, evaluate
from search_spaces.errors import InputError
from tests._data import coco, coco_folder, voc_folder, voc_object, voc_xml, write_image, yolo_folder

SHARED = Path(__file__).resolve().parents[4] / "shared"


def images_folder(root: Path) -> Path:
    for name in ("b.jpg", "deep/er/a.png"):
        write_image(root / name)
    return root


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "coco": coco_folder,
    "voc": voc_folder,
    "yolo": yolo_folder,
    "images": images_folder,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_finds_its_own(tmp_path: Path, name: str) -> None:
    """A format that is added to the table needs a builder above."""
    found = recognise(BUILDERS[name](tmp_path / "shop"))
    assert type(found) is FORMATS[name] and found.name == "shop"
    assert set(found.splits) == ({"train", "val"} if found.annotated else {"images"})
    for split in found.splits:
        data = found.read(split)
        assert (data.name, data.split) == ("shop", split) and len(data) >= 2 and not data.problems
        assert bool(data.boxes) == found.annotated
    assert not found.strays().counts


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_claims_what_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert FORMATS[name].find(tmp_path) is None
    assert FORMATS[name].find(tmp_path / "notes.txt") is None


def test_the_format_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "search_spaces.registry.entry_points", lambda group: [EntryPoint("one", f"{__name__}:OneBox", group)]
    )
    monkeypatch.delitem(FORMATS.__dict__, "_targets", raising=False)
    try:
        (tmp_path / "one.box").touch()
        write_image(tmp_path / "a.png")
        found = recognise(tmp_path)  # the folder of images, asked before it, has no train and no val
        assert isinstance(found, OneBox)
        assert open_data(tmp_path).train.samples[0].boxes.tolist() == [[0, 0, 9, 9]]
    finally:
        monkeypatch.undo()
        FORMATS.__dict__.pop("_targets", None)


class OneBox(DataFormat):
    """What a plug-in would write."""

    kind = "one box"
    looked_for = "one.box"

    @classmethod
    def find(cls, path: Path) -> DataFormat | None:
        return cls(str(path), {"train": 0, "val": 0}) if (path / "one.box").exists() else None

    def read(self, split: str, limit: int | None = None) -> DetectionDataset:
        sample = make_sample(1, Path(self.name) / "a.png", (40, 30), [Annotation((0, 0, 9, 9), 0)], Problems())
        return DetectionDataset("one", split, ["thing"], [sample])


# --- Pascal VOC
#
#
#
#
#
# ----------------------------------------------------------------------------------------------------------------------------


def test_voc_boxes_count_from_one_and_classes_are_sorted(tmp_path: Path) -> None:
    pair = open_data(voc_folder(tmp_path))
    assert pair.classes == ("cat", "dog")
    sample = pair.train.samples[0]
    assert sample.boxes.tolist() == [[5, 6, 15, 14], [0, 0, 40, 30]] and sample.labels.tolist() == [1, 0]
    assert [s.path.name for s in pair.val.samples] == ["c.jpg", "d.jpg"] and [s.id for s in pair.val.samples] == [1, 2]


def test_voc_classes_file_decides_the_order(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path)
    (folder / "classes.txt").write_text("dog\ncow\n\ncat\n", "utf-8-sig")
    pair = open_data(folder)
    assert pair.classes == ("dog", "cow", "cat") and pair.train.samples[0].labels.tolist() == [0, 2]


@pytest.mark.parametrize("depth", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_is_found_in_its_devkit(tmp_path: Path, depth: str) -> None:
    voc_folder(tmp_path / depth)
    pair = open_data(tmp_path)
    assert pair.name == (Path(depth).name or tmp_path.name) and len(pair.train) == 2


def test_voc_in_a_folder_for_each_split(tmp_path: Path) -> None:
    """xml beside images, as labelling services export it; both splits count their images alike."""
    for split, name in (("train", "dog"), ("valid", "cat")):
        for i in range(2):
            write_image(tmp_path / split / f"{i}.jpg", seed=i if split == "train" else 9 + i)
            (tmp_path / split / f"{i}.xml").write_text(voc_xml(voc_object(name)))
    found = recognise(tmp_path)
    assert found.kind == "Pascal VOC" and not found.strays().counts
    pair = open_data(tmp_path)
    assert pair.classes == ("cat", "dog") and not pair.problems()
    assert [s.labels.tolist() for s in pair.train.samples + pair.val.samples] == [[1], [1], [0], [0]]
    assert not np.array_equal(pair.train.load(0)[0], pair.val.load(0)[0])
    write_image(tmp_path / "valid" / "new.jpg")
    assert found.strays().counts == {} and recognise(tmp_path).strays().counts == {"image without annotations": 1}


def test_voc_difficult_is_not_trained_on_and_ignored_in_evaluation(tmp_path: Path) -> None:
    hard = voc_object(box=(21, 11, 40, 30), extra="<difficult>1</difficult>")
    easy = voc_object(extra="<difficult>0</difficult><truncated>1</truncated>")
    folder = voc_folder(tmp_path, {"train": {"a": voc_xml(easy, hard)}, "val": {"b": voc_xml(easy, hard)}})
    pair = open_data(folder)
    assert pair.val.samples[0].crowd.tolist() == [False, True]
    (batch,) = Loader(pair.train, LoaderConfig(1, 64)).epoch()
    assert len(batch.boxes) == 1

    def found(*boxes: list[float]) -> Detections:
        scores = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
        return Detections(np.array(boxes, np.float32), scores[::-1].copy(), np.zeros(len(boxes), np.int64))

    easy_box, hard_box, nothing = [5.0, 6, 15, 14], [20.0, 10, 40, 30], [0.0, 20, 10, 30]
    assert evaluate(pair.val, {1: found(easy_box)}).map == pytest.approx(1)
    assert evaluate(pair.val, {1: found(easy_box, hard_box)}).map == pytest.approx(1)  # neither right nor wrong
    assert evaluate(pair.val, {1: found(easy_box, nothing)}).map < 1


def test_voc_part_of_an_object_is_not_its_box(tmp_path: Path) -> None:
    """Person layout: parts have boxes of their own."""
    parts = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    folder = voc_folder(tmp_path)
    (folder / "Annotations" / "a.xml").write_text(voc_xml(voc_object(extra=parts)))
    pair = open_data(folder)
    assert pair.train.samples[0].boxes.tolist() == [[5, 6, 15, 14]] and pair.classes == ("dog",)


@pytest.mark.parametrize("size", [(0, 0), ("", ""), ("wide", "high")])
def test_voc_without_a_size(tmp_path: Path, size: tuple[object, object]) -> None:
    folder = voc_folder(tmp_path)
    (folder / "Annotations" / "a.xml").write_text(voc_xml(voc_object(), size=size))
    assert open_data(folder).train.samples[0].width == 40


SECRET = "the secret word"
DOCTYPES = {
    "external": '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file://{secret}">]>',
    "parameter": '<!DOCTYPE annotation [<!ENTITY % x SYSTEM "file://{secret}"> %x;]>',
    "external subset": '<!DOCTYPE annotation SYSTEM "file://{secret}">',
    "growing": "<!DOCTYPE annotation [<!ENTITY x0 'xxxxxxxxxx'>"
    + "".join(f"<!ENTITY x{i + 1} '{f'&x{i};' * 10}'>" for i in range(12))
    + "]>",
    "utf-16": '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file://{secret}">]>',
}


@pytest.mark.parametrize("case", DOCTYPES)
def test_voc_entities_are_not_read(tmp_path: Path, case: str) -> None:
    folder = voc_folder(tmp_path / "set")
    (tmp_path / "secret").write_text(SECRET)
    entity = "&x12;" if case == "growing" else "&x;"
    text = DOCTYPES[case].replace("{secret}", str(tmp_path / "secret")) + voc_xml(
        voc_object(name="dog" if "sub" in case else entity)
    )
    (folder / "Annotations" / "a.xml").write_bytes(text.encode("utf-16" if case == "utf-16" else "utf-8"))
    data = open_data(folder).train
    assert data.problems.counts == {"broken annotation file": 1} and len(data) == 1
    assert "declares a document type" in str(next(iter(data.problems))) and SECRET not in str(data.classes)


def test_voc_agrees_with_coco_on_real_images(tmp_path: Path) -> None:
    """BCCD was published as VOC and is here as COCO: written back as VOC, it is read alike."""
    source = SHARED / "data" / "bccd"
    if not source.is_dir():
        pytest.skip("the optional folder shared/data/bccd is not here")
    expected = open_data(source, limit=8)
    for split in (expected.train, expected.val):
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets" / "Main" / f"{split.split}.txt").write_text(
            "\n".join(s.path.stem for s in split.samples)
        )
        for s in split.samples:
            shutil.copy(s.path, tmp_path / "JPEGImages")
            rows = [
                (split.classes[k], [x1 + 1, y1 + 1, x2, y2])
                for k, (x1, y1, x2, y2) in zip(s.labels, s.boxes.tolist(), strict=True)
            ]
            objects = [voc_object(name, box) for name, box in rows]
            (tmp_path / "Annotations" / f"{s.path.stem}.xml").write_text(voc_xml(*objects, size=(s.width, s.height)))
    (tmp_path / "classes.txt").write_text("\n".join(expected.classes))
    pair = open_data(tmp_path)
    for got, want in ((pair.train, expected.train), (pair.val, expected.val)):
        for a, b in zip(got.samples, want.samples, strict=True):
            np.testing.assert_array_equal(a.boxes, b.boxes)
            np.testing.assert_array_equal(a.labels, b.labels)


# --- other layouts
#
#
#
#
#
# -------------------------------------------------------------------------------------------------------------------------


def test_a_test_split_shares_the_classes_of_train(tmp_path: Path) -> None:
    held_out = coco(1, 200)
    held_out["categories"] = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    folder = coco_folder(tmp_path)
    write_image(folder / "images" / "200.jpg")
    (folder / "test.json").write_text(json.dumps(held_out))
    data = open_split(folder, "test")
    assert data.classes == ("cat", "dog") and data.samples[0].labels.tolist() == [0]
    with pytest.raises(InputError, match="no images split in .*; expected one of train, val, test"):
        open_split(folder, "images")


COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "größe.jpg"), unicodedata.normalize("NFD", "größe.jpg")


@pytest.mark.parametrize("said", ["sub\\1.jpg", "sub/1.jpg", f"sub/{DECOMPOSED}", f"sub\\{COMPOSED}"])
@pytest.mark.parametrize("accented", [COMPOSED, DECOMPOSED])
def test_coco_names_from_another_system(tmp_path: Path, said: str, accented: str) -> None:
    content = coco(1)
    folder = coco_folder(tmp_path, content)
    content["images"][0]["file_name"] = said
    (folder / "train.json").write_text(json.dumps(content))
    on_disk = "1.jpg" if "1" in said else accented
    (folder / "images" / "sub").mkdir()
    (folder / "images" / "1.jpg").rename(folder / "images" / "sub" / on_disk)
    data = open_data(folder).train
    assert data.samples[0].path.name == on_disk and not data.problems
    assert not recognise(folder).strays().counts


@pytest.mark.parametrize("name", ["a\0.jpg", "a" * 5000 + ".jpg", ""])
def test_coco_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    content = coco(2)
    folder = coco_folder(tmp_path, content)
    content["images"][0]["file_name"] = name
    (folder / "train.json").write_text(json.dumps(content))
    data = open_data(folder).train
    assert len(data) == 1 and sum(data.problems.counts.values()) == 1


def test_yolo_splits_above_their_images(tmp_path: Path) -> None:
    """train/images and valid/images, without the yaml that came along; a test split is optional."""
    yolo_folder(tmp_path / "made")
    for split, name in (("train", "train"), ("val", "valid"), ("val", "test")):
        for part in ("images", "labels"):
            shutil.copytree(tmp_path / "made" / part / split, tmp_path / "set" / name / part)
    assert set(recognise(tmp_path / "set").splits) == {"train", "val", "test"}
    assert open_data(tmp_path / "set").classes == ("0", "1")


@pytest.mark.parametrize(
    "entry, splits",
    [("images/val", {"train", "val", "test"}), ("images/test", {"train", "val"}), ("", {"train", "val"})],
)
def test_yolo_test_split_of_a_yaml_may_be_absent(tmp_path: Path, entry: str, splits: set[str]) -> None:
    folder = yolo_folder(tmp_path)
    with (folder / "data.yaml").open("a") as file:
        file.write(f"test: {entry}\n")
    assert set(recognise(folder).splits) == splits


def test_coco_beside_a_yaml_that_is_something_else(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path)
    (folder / "compose.yaml").write_text("services: !tag {")
    assert len(open_data(folder).train) == 3


def test_a_format_with_both_splits_goes_before_one_with_half(tmp_path: Path) -> None:
    """A leftover train.json does not hide the YOLO set around it."""
    folder = yolo_folder(tmp_path)
    (folder / "train.json").write_text("{}")
    assert recognise(folder).kind == "YOLO"


# --- images only
#
#
#
#
#
# -------------------------------------------------------------------------------------------------------------------------


def test_images_without_annotations(tmp_path: Path) -> None:
    folder = images_folder(tmp_path)
    (folder / "c.jpg").write_text("no image")
    data = read_images(folder, ["cat"])
    assert [s.path.name for s in data.samples] == ["b.jpg", "a.png"] and data.classes == ("cat",) and data.boxes == 0
    assert data.problems.counts == {"broken image": 1}
    assert data.load(1)[0].shape == (30, 40, 3)
    assert len(read_images(folder, limit=1)) == 1
    (batch,) = Loader(open_split(folder, "images"), LoaderConfig(2, 64)).epoch()
    assert batch.images.shape == (2, 3, 64, 64) and len(batch.boxes) == 0
