"""Verbs, options and values of the version before, under the names that they have now. Kept for one version."""

from __future__ import annotations

import re
from collections.abc import Sequence

VERBS = {"spaces": "list"}
REMOVED = {"worker": "nas search --workers N on one machine, --ray ADDRESS on many (docs/scaling.md)"}
"""Verb that is gone -> what to use instead."""
OPTIONS: dict[str, dict[str, str]] = {
    "search": {"--quote": "--estimate-cost", "--more": "--total-trials"},
    "onboard": {"--most": "--max-networks", "--within": "--tolerance"},
    "evaluate": {"--pictures": "--images"},
}
"""Verb -> old option -> new option."""
REFERENCE = re.compile(r"=like:(?=\w)")
"""``S=like:yolov8n`` is ``S=ref:yolov8n``."""


def current(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line in today's names, and one line per name that changed.

    An abbreviation of an old option is not recognised; everything after the verb is looked at, its values included.
    """
    if not arguments:
        return [], []
    verb, *rest = arguments
    notices = []
    if verb in VERBS:
        notices.append(f"nas {verb} is now nas {VERBS[verb]}")
        verb = VERBS[verb]
    options = OPTIONS.get(verb, {})
    out = [verb]
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in options:
            notices.append(f"{name} is now {options[name]}")
            argument = options[name] + equals + value
        if REFERENCE.search(argument):
            notices.append("like:REFERENCE is now ref:REFERENCE")
            argument = REFERENCE.sub("=ref:", argument)
        out.append(argument)
    return out, notices
