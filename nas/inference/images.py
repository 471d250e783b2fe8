"""What :meth:`nas.inference.model.Model.predict` takes: files, folders, patterns, arrays, images of Pillow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from nas.data.images import read_image
from nas.inference.inputs import find_inputs, is_pattern, is_video
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Image = Any
"""A file, a folder, a pattern, an array uint8 [H, W, 3] in RGB, or an image of Pillow."""
Images = list[Any] | tuple[Any, ...]
"""Several of them."""

_EXPECTED = "a path, an array uint8 [H, W, 3] in RGB, an image of Pillow, or a list of these"


def expand(source: Image | Images) -> tuple[list[Any], bool]:
    """Return single images (paths, arrays, images of Pillow), and whether ``source`` names several.

    Raises InputError for a folder without images and for videos.
    """
    if isinstance(source, (list, tuple)):
        return [image for one in source for image in expand(one)[0]], True
    if not isinstance(source, (str, os.PathLike)):
        return [source], False
    word = os.fspath(source)
    found = find_inputs([word])
    if found == [Path(word)] and Path(word).is_dir():
        raise InputError(f"{word}: no image in this folder", "a folder of images", "folders in it are not searched")
    if videos := [path for path in found if is_video(path)]:
        raise InputError(f"{videos[0]} is a video", "images", "nas predict reads videos")
    return list(found), Path(word).is_dir() or is_pattern(word)


def pixels_of(image: object) -> NDArray[np.uint8]:
    """Return the pixels of one image, uint8 [H, W, 3] in RGB.

    Raises InputError for a broken file, and for arrays and images of other types.
    """
    if isinstance(image, Path):
        return read_image(image)
    if _is_pillow(image):
        return _of_pillow(image)
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image of type {type(image).__name__}", _EXPECTED)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"an image of type {image.dtype} and shape {list(image.shape)}", "uint8 [H, W, 3], RGB")
    return image


def _is_pillow(image: object) -> TypeGuard[PillowImage]:
    module = sys.modules.get("PIL.Image")  # whoever has such an image has imported it
    return module is not None and isinstance(image, module.Image)


def _of_pillow(image: PillowImage) -> NDArray[np.uint8]:
    """RGB pixels, turned as its Exif entry says; alpha is dropped."""
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        raise InputError(f"an image of Pillow in mode {image.mode}", "8 bits a channel, such as mode RGB or L")
    try:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow decodes only now
        raise InputError(f"an image of Pillow that cannot be decoded ({error})") from None
