"""Letterbox and augmentation: boxes stay on their pixels, and find their way back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.data.transforms import PAD, Augmentation, Placement, augment, jitter_hsv, letterbox, place, visible
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize

SIZES = [(640, 480), (480, 640), (333, 517), (128, 128), (1, 900), (31, 7)]


@pytest.mark.parametrize("size", [96, 320])
@pytest.mark.parametrize("width, height", SIZES)
def test_letterbox_inverse(width: int, height: int, size: int) -> None:
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1).reshape(50, 4) * (width, height, width, height)
    placement = letterbox(width, height, size)
    placed = placement.boxes(boxes)
    assert placed.dtype == np.float32 and placed.min() >= -1e-3 and placed.max() <= size + 1e-3
    np.testing.assert_allclose(placement.inverse(placed), boxes, atol=1e-3)


def test_letterbox_is_centred_on_grey() -> None:
    canvas = letterbox(40, 20, 80).paste(np.full((20, 40, 3), 7, np.uint8))
    assert canvas.shape == (80, 80, 3)
    assert (canvas[:20] == PAD).all() and (canvas[20:60] == 7).all() and (canvas[60:] == PAD).all()


def blue_on_white(width: int, height: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    rgb = np.full((height, width, 3), 255, np.uint8)
    rgb[box[1] : box[3], box[0] : box[2]] = (0, 0, 255)
    return rgb


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("width, height", [(200, 150), (90, 160)])
def test_augmented_boxes_lie_on_the_augmented_pixels(width: int, height: int, flip: float) -> None:
    """A box is drawn, all is augmented, and what has its colour afterwards must be what the box says, to a pixel of
    interpolation."""
    rng = np.random.default_rng(2)
    recipe = Augmentation(affine=1, flip=flip, hsv=0, min_area=0)
    seen = 0
    for _ in range(60):
        x1, y1 = int(rng.integers(0, width - 40)), int(rng.integers(0, height - 40))
        box = (x1, y1, x1 + int(rng.integers(15, 40)), y1 + int(rng.integers(15, 40)))
        canvas, boxes, labels, placement = augment(
            blue_on_white(width, height, box), np.array([box], np.float32), np.array([4]), 128, recipe, rng
        )
        assert canvas.shape == (128, 128, 3) and canvas.flags.c_contiguous
        ys, xs = np.nonzero((canvas[:, :, 2] > 180) & (canvas[:, :, 0] < 128))
        if not len(boxes):
            assert len(xs) < 3 * 128  # at most a sliver, under min_side
            continue
        seen += 1
        assert labels.tolist() == [4]
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        np.testing.assert_allclose(boxes[0], found, atol=1.01)
        np.testing.assert_allclose(np.clip(placement.boxes(np.array([box])), 0, 128), boxes)
    assert seen > 40


def test_mirror_is_exact() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    canvas, boxes, _, _ = augment(
        rgb,
        np.array([[1, 2, 11, 12]], np.float32),
        np.array([0]),
        64,
        Augmentation(flip=1, affine=0, hsv=0),
        np.random.default_rng(0),
    )
    np.testing.assert_array_equal(canvas, rgb[:, ::-1])
    assert boxes.tolist() == [[53, 2, 63, 12]]


def test_none_is_the_letterbox_and_uses_no_chance() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (50, 64, 3), np.uint8)
    boxes = np.array([[1, 2, 30, 40]], np.float32)
    for seed in (1, 2):
        canvas, placed, _, placement = augment(
            rgb, boxes, np.array([0]), 96, Augmentation.NONE, np.random.default_rng(seed)
        )
        assert placement == letterbox(64, 50, 96)
        np.testing.assert_array_equal(canvas, placement.paste(rgb))
        np.testing.assert_array_equal(placed, placement.boxes(boxes))


def test_same_rng_same_result() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (50, 64, 3), np.uint8)
    boxes = np.array([[1, 2, 30, 40]], np.float32)
    one, two, other = (
        augment(rgb, boxes, np.array([0]), 96, Augmentation.DEFAULT, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert one[3] == two[3] != other[3]


def test_default_recipe_moves_as_much_as_it_says() -> None:
    rng = np.random.default_rng(0)
    placements = [place(100, 100, 100, Augmentation.DEFAULT, rng) for _ in range(2000)]
    scales = np.array([p.scale_x for p in placements])
    assert 0.49 <= scales.min() < 0.55 and 1.4 < scales.max() <= 1.51
    shifts = np.array([p.left + 50 * p.scale_x - 50 for p in placements])
    assert -25.6 <= shifts.min() < -23 and 23 < shifts.max() <= 25.6
    assert 0.45 < np.mean([p.mirrored for p in placements]) < 0.55


def test_visible_drops_what_is_left_of_too_little() -> None:
    boxes = np.array(
        [
            [10, 10, 20, 20],  # kept
            [-10, 0, 90, 50],  # kept, clipped
            [-95, 0, 5, 50],  # 5 % left
            [10, 10, 11.5, 40],  # 1.5 px wide
            [10, 10, 12.1, 60],  # 24 times as high as wide
            [120, 0, 140, 20],  # outside
        ],
        np.float32,
    )
    clipped, keep = visible(boxes, Augmentation.DEFAULT, 100)
    assert keep.tolist() == [True, True, False, False, False, False]
    assert clipped[1].tolist() == [0, 0, 90, 50] and clipped.shape == (6, 4)
    assert visible(np.zeros((0, 4), np.float32), Augmentation.DEFAULT, 100)[1].shape == (0,)


def test_hsv_jitter_stays_in_its_ranges_and_leaves_the_input() -> None:
    rgb = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    before = rgb.copy()
    seen = {tuple(jitter_hsv(rgb, Augmentation.DEFAULT, np.random.default_rng(i))[0, 0].tolist()) for i in range(200)}
    np.testing.assert_array_equal(rgb, before)
    assert len(seen) > 100
    assert all(168 <= max(colour) <= 232 for colour in seen)  # the value of HSV is the largest channel: 200 +- 30
    same = jitter_hsv(rgb, Augmentation(hue=0, saturation=0, value=0), np.random.default_rng(0))
    np.testing.assert_allclose(same.astype(int), rgb, atol=3)  # 8-bit HSV rounds


def test_jitter_leaves_the_border_grey() -> None:
    canvas, *_ = augment(
        np.full((20, 40, 3), (200, 100, 50), np.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        80,
        Augmentation(affine=0, hsv=1),
        np.random.default_rng(0),
    )
    assert (canvas[:20] == PAD).all() and (canvas[20:60] != (200, 100, 50)).any()


def test_image_wholly_off_the_canvas() -> None:
    placement = Placement(ImageSize(32, 32), 1.0, 1.0, 100, -50)
    assert (placement.paste(np.zeros((10, 10, 3), np.uint8)) == PAD).all()


@pytest.mark.parametrize("changes", [{"degrees": 30.0}, {"shear": 15.0}, {"degrees": 180.0, "shear": 10.0}], ids=str)
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_turned_boxes_enclose_the_turned_pixels(changes: dict[str, float], flip: float) -> None:
    """The upright box around the corners of a turned rectangle is the upright box around its pixels."""
    rng, augmentation, turned = (
        np.random.default_rng(4),
        Augmentation(affine=1, flip=flip, hsv=0, min_area=0, translate=0.1).changed(changes),
        0,
    )
    for _ in range(40):
        box = (
            x := int(rng.integers(30, 110)),
            y := int(rng.integers(30, 90)),
            x + int(rng.integers(15, 50)),
            y + int(rng.integers(15, 40)),
        )
        canvas, _, _, placement = augment(
            blue_on_white(200, 150, box), np.array([box], np.float32), np.array([4]), 160, augmentation, rng
        )
        whole = placement.boxes(np.array([box]))[0]
        if whole.min() < 0 or whole.max() > 160:  # cut off: the corners that make the box may lie outside
            continue
        turned += placement.turn is not None
        ys, xs = np.nonzero((canvas[:, :, 2] > 180) & (canvas[:, :, 0] < 128))
        np.testing.assert_allclose(whole, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.5)
    assert turned > 20


def test_a_quarter_turn_is_exact_and_finds_its_way_back() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    placement = Placement(ImageSize(64, 64), 1.0, 1.0, 0, 0, turn=(0.0, -1.0, 1.0, 0.0), pivot=(32.0, 32.0))
    np.testing.assert_array_equal(placement.paste(rgb), np.rot90(rgb, -1))
    box = np.array([[4, 10, 20, 30]], np.float32)
    assert placement.boxes(box).tolist() == [[34, 4, 54, 20]]
    np.testing.assert_allclose(placement.inverse(placement.boxes(box)), box, atol=1e-4)


def test_turned_corners_are_grey_whatever_the_colours() -> None:
    augmentation = Augmentation(affine=1, hsv=1, degrees=45, scale=(0.5, 0.5), translate=0)
    canvas, *_ = augment(
        np.full((90, 90, 3), (200, 100, 50), np.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        90,
        augmentation,
        np.random.default_rng(1),
    )
    assert (canvas[0] == PAD).all() and (canvas[:, 0] == PAD).all() and (canvas[45, 45] != PAD).any()


def test_swap_exchanges_red_and_blue() -> None:
    rgb = np.full((8, 8, 3), (10, 20, 30), np.uint8)
    swapped, *_ = augment(
        rgb,
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        8,
        Augmentation(flip=0, affine=0, hsv=0, swap=1),
        np.random.default_rng(0),
    )
    assert (swapped == (30, 20, 10)).all()


def test_changed_by_name() -> None:
    changed = Augmentation.DEFAULT.changed({"scale": [0.5, 2.0], "mosaic": 1.0})
    assert (changed.scale, changed.mosaic, changed.flip) == ((0.5, 2.0), 1.0, 0.5)
    assert Augmentation.DEFAULT.changed(changed.to_dict()) == changed
    with pytest.raises(InputError, match=r"unknown augmentation 'mozaic'.*did you mean 'mosaic'"):
        Augmentation.DEFAULT.changed({"mozaic": 1.0})


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 1.5},
        {"hsv": float("nan")},
        {"scale": (0, 1)},
        {"scale": (2, 1)},
        {"translate": -0.1},
        {"min_area": -1},
        {"mosaic": 2},
        {"shear": 60},
    ],
)
def test_impossible_recipes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"augmentation {next(iter(wrong))}"):
        Augmentation(**wrong)  # type: ignore[arg-type]  # the point of the test


def test_half_of_the_images_stay_in_their_place() -> None:
    """If all were moved, images that fill the canvas would mostly be enlarged ones, and networks learn that."""
    rng = np.random.default_rng(0)
    plain = letterbox(100, 80, 96)
    placed = [place(100, 80, 96, Augmentation.DEFAULT, rng) for _ in range(400)]
    kept = sum(p.left == plain.left and p.top == plain.top and p.scale_x == plain.scale_x for p in placed)
    assert 160 < kept < 240
