"""The image size as a value, and as a choice of a space."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass

import pytest

from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.fixed_values import fixed_values
from search_spaces.image_size import ImageSize, OptionalSizeField, SizeField
from search_spaces.references import point_of
from search_spaces.spaces import SPACES
from search_spaces.trace import trace

WIDE = ImageSize(256, 448)
NANO = SPACES["yolo-nano"]
SMALLEST = {
    "yolo-nano": "72c2a29486ad",
    "yolo-nas": "416afe5167b9",
    "yolo-universal": "ec6a453282b6",
    "yolo-universal-nano": "e5a1b5d4acf2",
    "yolov5": "88a7e3e7ed92",
    "yolov6": "c259937291b1",
    "yolov7": "a717d4b4be2d",
    "yolov7-tiny": "45e308f03ebc",
    "yolov8": "2a4b23215854",
    "yolox": "38be8de3b635",
    "yolo11": "e904c720be30",
    "yolo12": "7db1d2d37bff",
    "yolo26": "270c1d3bdc75",
}
"""Ids of the smallest architectures, as the version without rectangles gave them."""


@dataclass(frozen=True)
class Both:
    size: SizeField = SizeField()
    other: OptionalSizeField = OptionalSizeField()


@pytest.mark.parametrize(
    "given, text, value",
    [(320, "320", 320), ("320", "320", 320), ("320x320", "320", 320), ("256x448", "256x448", None)],
)
def test_forms(given: int | str, text: str, value: int | None) -> None:
    size = ImageSize.of(given)
    assert str(size) == text and size.value == (value or text) and ImageSize.of(size.value) == size
    assert ImageSize.of(json.loads(json.dumps(size.value))) == size == copy.deepcopy(size)


def test_height_comes_first() -> None:
    assert (WIDE.height, WIDE.width) == (256, 448) == WIDE.shape == tuple(WIDE)
    assert ImageSize.of("256x448") == WIDE != ImageSize.of("448x256")


def test_a_square_equals_its_side() -> None:
    assert ImageSize(320, 320) == 320 and hash(ImageSize(320, 320)) == hash(320) and WIDE not in (256, 448)
    assert f"{ImageSize(320, 320)} px" == "320 px" and ImageSize(320, 320).side == 320.0


def test_sizes_are_ordered_by_area() -> None:
    sizes = [ImageSize.of(s) for s in ("448x256", 320, "256x448", 352)]
    assert [str(s) for s in sorted(sizes)] == ["320", "256x448", "448x256", "352"]


@pytest.mark.parametrize(
    "wrong", ["", "x", "256x", "x448", "256X448", "256x448x3", "-32x32", "0x32", "25 6", 1.5, None]
)
def test_other_forms_are_refused_in_one_line(wrong: object) -> None:
    with pytest.raises(InputError, match="image size .*HEIGHTxWIDTH such as 384x640") as error:
        ImageSize.of(wrong)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong, near", [("250x448", "224x448 or 256x448"), ("256x450", "256x448 or 256x480")])
def test_both_sides_are_multiples_of_the_stride(wrong: str, near: str) -> None:
    with pytest.raises(InputError, match=f"image size {wrong} of S; expected multiples of 32 .*; for example {near}"):
        ImageSize.of(wrong).check("S")
    assert WIDE.check() is WIDE
    with pytest.raises(InputError, match=f"for example {near}"):
        NANO.restrict(fixed_values(NANO, [f"image_size={wrong}"]))


def test_a_field_takes_every_form() -> None:
    assert Both("256x448").size == WIDE and Both(96).size == 96 and Both(96).other is None
    assert copy.deepcopy(Both(WIDE, "64x96")) == Both(WIDE, "64x96")
    assert Both(WIDE).size is WIDE and Both(96) != Both("96x128") and len({Both(96), Both("96x96")}) == 1
    with pytest.raises(TypeError, match="size"):
        Both()
    with pytest.raises(InputError, match="image size"):
        Both("wide")


@pytest.mark.parametrize("name", SPACES)
def test_every_space_takes_rectangles(name: str) -> None:
    space = SPACES[name]
    squares = [ImageSize.of(v) for v in space["image_size"].values]  # type: ignore[arg-type]
    assert all(size.is_square for size in squares) and space.image_sizes == tuple(squares) == tuple(sorted(squares))
    point = space.check(space.smallest.replace(image_size="256x448"))
    assert point.image_size == WIDE == space.graph(point).image_size and point.id != space.smallest.id
    assert Architecture.from_dict(json.loads(json.dumps(point.to_dict()))) == point
    wide, square = trace(space.graph(point), 3), trace(space.graph(point), 3, 448)
    attention = any(kind in n.kind for n in space.graph(point) for kind in ("a2c2f", "attention", "c2psa"))
    assert attention or wide.macs / square.macs == pytest.approx(256 / 448)


def test_rectangles_are_choices_of_a_search() -> None:
    part = NANO.restrict(fixed_values(NANO, ["image_size=384x640,320x320,256x448"]))
    assert part["image_size"].values == (320, "256x448", "384x640")
    points = {part.sample(random.Random(i))["image_size"] for i in range(30)}
    assert points == {320, "256x448", "384x640"} and part.encode(part.largest)[-1] == part.encode(part.smallest)[-1] + 1
    assert all(NANO.check(a) is a for a in (part.smallest, part.largest))
    for other in (96, "448x256", "320x320"):
        with pytest.raises(InputError, match=r"unknown value of 'image_size'|expected"):
            part.check(part.smallest.replace(image_size=other))


def test_a_search_without_rectangles_is_as_before() -> None:
    assert NANO["image_size"].values == (96, 128, 160, 192, 256, 320, 416, 512, 640)
    assert {name: SPACES[name].smallest.id for name in SMALLEST} == SMALLEST
    rng = random.Random(0)
    assert all(isinstance(NANO.sample(rng)["image_size"], int) for _ in range(20))


@pytest.mark.parametrize("fixed", [(320, "256x448"), (160, "256x448", 192), ("256x448", 320, "64x96")])
def test_a_reference_takes_the_nearest_size(fixed: tuple[int | str, ...]) -> None:
    assert point_of(SPACES["yolov8"].restrict({"image_size": fixed}), "yolov8n")["image_size"] == "256x448"
