"""The rule for image sizes: detectors have a stride of 32 pixels, so both sides are multiples of it."""

from __future__ import annotations

from search_spaces.errors import InputError

STRIDE = 32
"""Pixels of the input per cell of the coarsest feature map."""


def check_image_size(size: int, of: str = "") -> int:
    """Return the size in pixels if a detector can be built for it.

    Args:
        size: side of the square input, pixels.
        of: what has the size; it is named in the error.

    Raises:
        InputError: if the size is not a positive multiple of :data:`STRIDE`.
    """
    if size < STRIDE or size % STRIDE:
        raise InputError(f"image size {size}{f' of {of}' if of else ''}", f"a multiple of {STRIDE}")
    return size
