"""Images as people have them: what each oddity is read as, and the reason given where it cannot be."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas.data import images as images
from nas.data.images import BrokenImage, annotated_size, image_sizes, images_in, read_image
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import open_data
from tests._data import coco, coco_folder, write_image

RGB = (200, 100, 50)


def plain(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, RGB).convert(mode)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def see_through() -> Image.Image:
    image = plain("RGBA")
    image.putalpha(0)
    return image


def sixteen(suffix: str) -> bytes:
    array = np.full((30, 40, 3), [v * 256 + 77 for v in RGB[::-1]], np.uint16)  # the lower eight bits are to go
    return bytes(cv2.imencode(suffix, array)[1])


def sixteen_with_alpha() -> bytes:
    """A TIFF of 16 bits a channel that uses 12, as a microscope writes it."""
    array = np.full((30, 40, 4), [v * 16 + 7 for v in (*RGB[::-1], 255)], np.uint16)
    return bytes(cv2.imencode(".tiff", array)[1])


GREY = (124, 124, 124)  # luma of RGB, ITU-R BT.601
READ: dict[str, tuple[Callable[[], bytes], tuple[int, ...], int]] = {
    "a.jpg": (lambda: encoded(plain(), "JPEG", quality=95), RGB, 3),
    "progressive.jpg": (lambda: encoded(plain(), "JPEG", quality=95, progressive=True), RGB, 3),
    "grey.jpg": (lambda: encoded(plain("L"), "JPEG", quality=95), GREY, 2),
    "cmyk.jpg": (lambda: encoded(plain("CMYK"), "JPEG", quality=95), RGB, 4),
    "grey.png": (lambda: encoded(plain("L"), "PNG"), GREY, 1),
    "grey-alpha.png": (lambda: encoded(plain("LA"), "PNG"), GREY, 1),
    "alpha.png": (lambda: encoded(see_through(), "PNG"), RGB, 0),
    "alpha.tif": (lambda: encoded(see_through(), "TIFF", compression="tiff_lzw"), RGB, 0),
    "twelve-alpha.tif": (sixteen_with_alpha, RGB, 1),
    "grey-alpha.tif": (lambda: encoded(plain("LA"), "TIFF"), GREY, 1),
    "palette.png": (lambda: encoded(plain().quantize(4), "PNG"), RGB, 1),
    "sixteen.png": (lambda: sixteen(".png"), RGB, 1),
    "sixteen.tiff": (lambda: sixteen(".tiff"), RGB, 1),
    "a.tif": (lambda: encoded(plain(), "TIFF", compression="tiff_lzw"), RGB, 0),
    "pages.tif": (lambda: encoded(plain(), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]), RGB, 0),
    "a.bmp": (lambda: encoded(plain(), "BMP"), RGB, 0),
    "a.webp": (lambda: encoded(plain(), "WEBP", lossless=True), RGB, 0),
    "moving.webp": (
        lambda: encoded(plain(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (40, 30))]),
        RGB,
        3,
    ),
    "png called.jpg": (lambda: encoded(plain(), "PNG"), RGB, 0),
    "größe 画像.jpg": (lambda: encoded(plain(), "JPEG", quality=95), RGB, 3),
}


@pytest.mark.parametrize("name", READ)
def test_an_odd_image_is_read(tmp_path: Path, name: str) -> None:
    make, colour, tolerance = READ[name]
    path = tmp_path / "Bilder für mich" / name
    path.parent.mkdir()
    path.write_bytes(make())
    assert image_sizes(path) == ((40, 30), (40, 30))
    rgb = read_image(path, (40, 30))
    assert rgb.shape == (30, 40, 3) and rgb.dtype == np.uint8
    assert np.abs(rgb.astype(int) - colour).max() <= tolerance


def halves() -> NDArray[np.uint8]:
    """Left black, right white."""
    array = np.zeros((30, 40, 3), np.uint8)
    array[:, 20:] = 255
    return array


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_of_every_format(tmp_path: Path, format: str) -> None:
    """6 says: turn by 90 degrees clockwise to see it; the left half comes to lie on top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(encoded(Image.fromarray(halves()), format, exif=exif))
    shown, _ = image_sizes(path)
    rgb = read_image(path)
    assert shown == (30, 40) == rgb.shape[1::-1]
    assert rgb[:15].mean() < 20 and rgb[-15:].mean() > 235
    np.testing.assert_array_equal(read_image(path, shown), rgb)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_annotations_made_for_the_unturned_image(tmp_path: Path, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(encoded(Image.fromarray(halves()), format, exif=exif))
    assert annotated_size(path, 40, 30) == (40, 30)
    rgb = read_image(path, (40, 30))
    assert rgb[:, :15].mean() < 20 and rgb[:, -15:].mean() > 235


def test_one_pixel_goes_through_a_loader(tmp_path: Path) -> None:
    content = coco(1)
    content["images"][0].update(width=1, height=1)
    content["annotations"][0].update(bbox=[0, 0, 1, 1])
    folder = coco_folder(tmp_path, content)
    write_image(folder / "images" / "1.jpg", 1, 1)
    (batch,) = Loader(open_data(folder).train, LoaderConfig(1, 64)).epoch()
    assert batch.images.shape == (1, 3, 64, 64) and batch.boxes.tolist() == [[0, 0, 64, 64]]


@pytest.mark.parametrize(
    "width, height", [(None, None), (0, 0), (float("nan"), 30), (float("inf"), 30), ("40", "30"), (True, True)]
)
def test_a_size_that_says_nothing_is_the_files(tmp_path: Path, width: object, height: object) -> None:
    assert annotated_size(write_image(tmp_path / "a.png", 41, 29), width, height) == (41, 29)


def _folder(path: Path) -> None:
    path.mkdir()


def _cut(data: bytes, share: float = 0.5) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data[: int(len(data) * share)])


def _noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))


def _damaged_png(path: Path) -> None:
    data = bytearray(encoded(_noise(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent.jpg": (lambda path: None, "no such image"),
    "folder.jpg": (_folder, "is a folder"),
    "empty.jpg": (lambda path: path.write_bytes(b""), "is an empty file"),
    "text.jpg": (lambda path: path.write_text("hello"), "is no image of a known kind"),
    "page.png": (lambda path: path.write_text("<html>404</html>"), "is no image of a known kind"),
    "head.jpg": (_cut(encoded(plain(), "JPEG"), 0.05), "is no image of a known kind"),
    "half.jpg": (_cut(encoded(_noise(), "JPEG")), "is cut off or damaged"),
    "nearly.jpg": (_cut(encoded(_noise(), "JPEG"), 0.99), "is cut off or damaged"),
    "half.png": (_cut(encoded(_noise(), "PNG")), "is cut off or damaged"),
    "damaged.png": (_damaged_png, "is cut off or damaged"),
    "half.bmp": (_cut(encoded(_noise(), "BMP")), "is cut off or damaged"),
    "half.tif": (_cut(encoded(_noise(), "TIFF")), "is cut off or damaged"),
    "half.webp": (_cut(encoded(_noise(), "WEBP")), "is no image of a known kind"),
    "grey-float.tif": (
        lambda path: path.write_bytes(encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF")),
        "has floating-point pixels; convert it to 8 bits",
    ),
    "float.tif": (
        lambda path: path.write_bytes(bytes(cv2.imencode(".tiff", np.ones((3, 4, 3), np.float32))[1])),
        "has floating-point pixels; convert it to 8 bits",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_says_why(tmp_path: Path, name: str) -> None:
    spoil, reason = BROKEN[name]
    spoil(tmp_path / name)
    with pytest.raises(BrokenImage) as error:
        read_image(tmp_path / name)
    assert error.value.reason == reason
    assert (
        str(error.value)
        == f"{tmp_path / name}: {reason}; expected a readable image; replace the file, or remove it from the data set"
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_huge_image_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setattr(images, "MOST_PIXELS", 1000)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(encoded(plain(), format))
    for read in (image_sizes, read_image):
        with pytest.raises(
            BrokenImage, match=r"has too many pixels \(40x30\), at most .* million are decoded; cut it into tiles"
        ):
            read(path)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    """A PNG that claims 400 megapixels."""
    path, data = tmp_path / "a.png", encoded(plain(), "PNG")
    header = b"IHDR" + struct.pack(">II", 20000, 20000) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(BrokenImage, match="has too many pixels, at most 134 million are decoded"):
        read_image(path)


def test_what_is_hidden_is_no_image(tmp_path: Path) -> None:
    for name in ("b.JPG", "sub/a.png", "._b.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in images_in(tmp_path)] == ["b.JPG", "a.png"]


def test_training_goes_on_without_broken_images(tmp_path: Path) -> None:
    """One that its header gives away is left out when the data set is opened, one that is cut off when it is loaded;
    both are named."""
    folder = coco_folder(tmp_path, coco(12))
    (folder / "images" / "3.jpg").write_bytes(b"")
    (folder / "images" / "5.jpg").unlink()
    (folder / "images" / "5.jpg").mkdir()
    whole = (folder / "images" / "7.jpg").read_bytes()
    (folder / "images" / "7.jpg").write_bytes(whole[: len(whole) // 2])
    data = open_data(folder).train
    assert len(data) == 10
    batches = list(Loader(data, LoaderConfig(5, 64, shuffle=True, drop_last=True)).epoch())
    assert len(batches) == 2 and all(len(batch) == 5 for batch in batches)
    assert {Path(p.where).name: p.message for p in data.problems} == {
        "3.jpg": "is an empty file, skipped",
        "5.jpg": "is a folder, skipped",
        "7.jpg": "is cut off or damaged, replaced by another",
    }
