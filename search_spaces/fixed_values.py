"""Restrictions of a space as text: ``image_size=96,128``."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.architecture import Value
from search_spaces.errors import InputError
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
            raise InputError(f"--fix {text!r}", "CHOICE=VALUE[,VALUE…], for example image_size=320")
        known = {str(v): v for v in space[name].values}
        if wrong := [v for v in values.split(",") if v not in known]:
            raise InputError(f"{name} = {wrong}", f"some of {list(known)}")
        fixed[name] = tuple(v for k, v in known.items() if k in values.split(","))
    return fixed
