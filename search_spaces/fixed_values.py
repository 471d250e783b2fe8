"""Restrictions of a space as text: ``image_size=96,128x256``."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.architecture import Value
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from search_spaces.space import SearchSpace


def fixed_values(space: SearchSpace, texts: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """Parse ``["image_size=96,128"]`` to ``{"image_size": (96, 128)}``, for :meth:`SearchSpace.restrict`.

    The values have the types of the space's own. Raises InputError if a text has another form, or names a choice or a
    value that the space does not have.
    """
    fixed: dict[str, tuple[Value, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise InputError(f"--fix {text!r}", "CHOICE=VALUE[,VALUE…], for example image_size=320 or 384x640")
        known = {str(v): v for v in space[name].values}
        if space[name].rectangles:
            known = _with_rectangles(known, values.split(","))
        if wrong := [v for v in values.split(",") if v not in known]:
            raise InputError(f"{name} = {wrong}", f"some of {list(known)}")
        fixed[name] = tuple(dict.fromkeys(v for k, v in known.items() if k in values.split(",")))
    return fixed


def _with_rectangles(known: dict[str, Value], texts: Sequence[str]) -> dict[str, Value]:
    """Return the values of a choice of image sizes by their texts, with those that ``texts`` write as HEIGHTxWIDTH.

    Raises InputError for a rectangle that networks do not take.
    """
    written = {text: ImageSize.of(text).check().value for text in texts if "x" in text}
    found = known | {text: v for text, v in written.items() if isinstance(v, str) or v in known.values()}
    return dict(sorted(found.items(), key=lambda item: ImageSize.of(item[1])))  # type: ignore[arg-type]
