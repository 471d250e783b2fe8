"""Small data sets in the formats people have, written to a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
Coco = dict[str, Any]


def write_image(path: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), noise)
    return path


def coco(count: int = 3, first: int = 1) -> Coco:
    """``count`` images with one box of 10 x 8 each; ids with gaps, as real files have."""
    images = [{"id": first + 5 * i, "file_name": f"{first + i}.jpg", "width": 40, "height": 30} for i in range(count)]
    boxes = [
        {"id": i, "image_id": first + 5 * i, "category_id": 7, "bbox": [5, 6, 10, 8], "area": 80, "iscrowd": 0}
        for i in range(count)
    ]
    return {"images": images, "annotations": boxes, "categories": [dict(c) for c in CATEGORIES]}


def coco_folder(root: Path, train: Coco | None = None, val: Coco | None = None) -> Path:
    for split, content in (("train", train or coco()), ("val", val or coco(2, 100))):
        for image in content["images"]:
            write_image(root / "images" / image["file_name"], seed=abs(image["id"]))
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


def yolo_folder(
    root: Path, train: str = "0 0.5 0.5 0.5 0.5\n", val: str = "1 0.5 0.5 0.2 0.2\n", names: Any = ("cat", "dog")
) -> Path:
    for split, text in (("train", train), ("val", val)):
        for i in range(2):
            write_image(root / "images" / split / f"{i}.png", seed=i)
            labels = root / "labels" / split / f"{i}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(text)
    lines = json.dumps(list(names) if isinstance(names, tuple) else names)
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames: {lines}\n")
    return root


def exif_jpeg(path: Path, orientation: int) -> Path:
    """A 40 x 30 JPEG whose Exif block names an orientation."""
    data = write_image(path).read_bytes()
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00" + orientation.to_bytes(2, "little") + b"\0\0"
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\x01\0" + entry + b"\0\0\0\0"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    return path


def voc_object(name: str = "dog", box: Iterable[object] = (6, 7, 15, 14), extra: str = "") -> str:
    """One object; corners count from 1."""
    corners = "".join(
        f"<{corner}>{value}</{corner}>" for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def voc_xml(*objects: str, size: tuple[object, object] = (40, 30)) -> str:
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{''.join(objects)}</annotation>"


def voc_folder(root: Path, splits: Mapping[str, Mapping[str, str]] | None = None) -> Path:
    """Split -> name of an image -> its annotation file; by default two images of each split with a dog, in train a
    cat too."""
    both = voc_object(), voc_object("cat", (1, 1, 40, 30))
    splits = splits or {
        "train": {"a": voc_xml(*both), "b": voc_xml(both[0])},
        "val": {"c": voc_xml(both[0]), "d": voc_xml(both[0])},
    }
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    seed = 0
    for split, files in splits.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in files))
        for stem, text in files.items():
            write_image(root / "JPEGImages" / f"{stem}.jpg", seed=(seed := seed + 1))
            (root / "Annotations" / f"{stem}.xml").write_text(text)
    return root
