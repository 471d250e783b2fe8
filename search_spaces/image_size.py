"""The image size of a network as a value: height and width in pixels, written ``384x640``, a square as one number."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import overload

from search_spaces.errors import InputError

STRIDE = 32
"""Pixels of the input per cell of the coarsest feature map. Both sides of an image size are multiples of it."""
FORM = "a whole number of pixels, or HEIGHTxWIDTH such as 384x640"

_TEXT = re.compile(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?")


@dataclass(frozen=True)
class ImageSize:
    """Height and width of images in pixels.

    A square equals its side (``ImageSize(320, 320) == 320``), and is serialised and printed as that number, as in
    versions that had only squares. Iteration yields height and width: ``(3, *size)`` is the shape of an image.

    Raises InputError for a side that is no whole number; :meth:`check` tells whether networks take the size.
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        if any(type(side) is not int for side in self.shape):
            raise InputError(f"image size {self.height!r}x{self.width!r}", "whole numbers of pixels")

    @classmethod
    def of(cls, size: AnySize) -> ImageSize:
        """Return the size that a number (a square), a text (``320``, ``384x640``: height x width) or a size means.

        Raises InputError for anything else.
        """
        if isinstance(size, ImageSize):
            return size
        if isinstance(size, str):
            if not (found := _TEXT.fullmatch(size)):
                raise InputError(f"image size {size!r}", FORM)
            return cls(int(found[1]), int(found[2] or found[1]))
        if type(size) is not int:
            raise InputError(f"image size {size!r}", FORM)
        return cls(size, size)

    def __str__(self) -> str:
        return str(self.height) if self.is_square else f"{self.height}x{self.width}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return self.is_square and self.height == other
        return isinstance(other, ImageSize) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(self.height) if self.is_square else hash(self.shape)

    def __lt__(self, other: ImageSize) -> bool:
        return (self.area, self.height) < (other.area, other.height)

    def __iter__(self) -> Iterator[int]:
        return iter(self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, as in the shape of an array."""
        return self.height, self.width

    @property
    def is_square(self) -> bool:
        """Whether height and width are equal."""
        return self.height == self.width

    @property
    def value(self) -> int | str:
        """The size in JSON and as value of a choice: the side of a square, else ``"384x640"``."""
        return self.height if self.is_square else str(self)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def side(self) -> float:
        """Side in pixels of the square of the same area."""
        return math.sqrt(self.area)

    def check(self, of: str = "") -> ImageSize:
        """Return the same size if networks take it. ``of``: what has the size, for the error.

        Raises InputError if a side is no multiple of :data:`STRIDE`.
        """
        if any(side < STRIDE or side % STRIDE for side in self.shape):
            multiple = f"a multiple of {STRIDE}" if self.is_square else f"multiples of {STRIDE} as height and width"
            raise InputError(f"image size {self}{f' of {of}' if of else ''}", multiple, self._hint())
        return self

    def _hint(self) -> str:
        if min(self.shape) < STRIDE:
            return f"the smallest is {STRIDE}"
        low, high = (ImageSize(*((side + up) // STRIDE * STRIDE for side in self.shape)) for up in (0, STRIDE - 1))
        return f"for example {low} or {high}"


AnySize = int | str | ImageSize
"""The forms in which functions take an image size: the side of a square, ``"384x640"``, or an :class:`ImageSize`."""


def optional_size(size: AnySize | None) -> ImageSize | None:
    """Return the :class:`ImageSize` of any form, or None. Raises InputError for a wrong form."""
    return None if size is None else ImageSize.of(size)


class SizeField:
    """A field of a dataclass that takes any form of an image size and holds an :class:`ImageSize`.

    Setting it raises InputError for a wrong form. ::

        @dataclass(frozen=True)
        class Network:
            image_size: SizeField = SizeField()

        Network(320).image_size == Network("320x320").image_size == ImageSize(320, 320)

    Args:
        default: value of the field where none is given; without it, the field is required.
    """

    def __init__(self, default: AnySize | None = None) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> ImageSize: ...
    @overload
    def __get__(self, instance: object, owner: type) -> ImageSize: ...
    def __get__(self, instance: object | None, owner: type) -> ImageSize:
        if instance is None:  # the dataclass asks for the default
            if self._default is None:
                raise AttributeError(self._name)
            return ImageSize.of(self._default)
        size: ImageSize = instance.__dict__[self._name]
        return size

    def __set__(self, instance: object, size: AnySize) -> None:
        instance.__dict__[self._name] = ImageSize.of(size)


class OptionalSizeField(SizeField):
    """As :class:`SizeField`; the default is None."""

    @overload  # type: ignore[override]
    def __get__(self, instance: None, owner: type) -> ImageSize | None: ...
    @overload
    def __get__(self, instance: object, owner: type) -> ImageSize | None: ...
    def __get__(self, instance: object | None, owner: type) -> ImageSize | None:
        return None if instance is None else instance.__dict__[self._name]

    def __set__(self, instance: object, size: AnySize | None) -> None:
        instance.__dict__[self._name] = optional_size(size)
