"""What a study is about, kept in the study, and compared before it is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from nas.data.source import DataPair
from nas.search.plan import SearchPlan
from nas.search.settings import SearchSettings
from nas.search.study_reader import find_record
from search_spaces.errors import InputError

COMPARED = (
    *("space", "fixed", "num_classes", "precisions", "latency", "accuracy", "minimize", "maximize", "bounds"),
    "eval_images",
    "others",
)
"""Settings that candidates of one study have in common."""
_OF_SUPERNET = ("init", "recipe", "augment", "seed")
"""Settings that decide the weights of a supernet which a search trains for itself."""


@dataclass(frozen=True)
class StudyIdentity:
    """What all candidates of a study have in common.

    Args:
        settings: Settings of the search.
        data: Fingerprint of the data set; None without.
        device: Fingerprint of the device whose latencies are measured; None if none are.
        weights: SHA-256 of the supernet's weights; None without a supernet, or before it is trained.
    """

    settings: SearchSettings
    data: str | None
    device: str | None
    weights: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record that a study keeps (JSON)."""
        found = {"settings": self.settings.to_dict(), "data": self.data, "device": self.device}
        return {**found, "weights": self.weights} if self.weights else found

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], name: str) -> StudyIdentity:
        """Restore an identity from the record of the study ``name``. Raises InputError for one of another version."""
        try:
            settings = SearchSettings.from_dict(record["settings"])
            data, device, weights = (record.get(key) for key in ("data", "device", "weights"))
        except (KeyError, TypeError, InputError) as error:
            raise InputError(f"the study {name!r} was begun by another version ({error})") from None
        for key, value in (("data", data), ("device", device), ("weights", weights)):
            if value is not None and not isinstance(value, str):
                raise InputError(f"{key} in the record of study {name!r} is {value!r:.80}", "a string or null")
        return cls(settings, data, device, weights)

    def check_same(self, other: StudyIdentity, name: str) -> None:
        """Raise InputError if ``other``, the identity that the study keeps, differs from this one."""
        hint = "give this search another name (its folder's) or another storage"
        for key in COMPARED:
            mine, theirs = getattr(self.settings, key), getattr(other.settings, key)
            if _plain(mine) != _plain(theirs):
                raise InputError(f"study {name!r} was begun with {key} {_plain(theirs)}", f"{_plain(mine)}", hint)
        mine, theirs = Target.parse(self.settings.target), Target.read(other.settings.target)
        if replace(mine, device=theirs.device) != theirs:
            raise InputError(f"study {name!r} was begun on target {theirs}", f"{mine}", hint)
        if self.data != other.data:
            raise InputError(
                f"study {name!r} was begun with another data set ({other.settings.data})",
                f"the images and boxes of {self.settings.data}",
                hint,
            )
        if self.weights and other.weights and self.weights != other.weights:
            raise InputError(
                f"study {name!r} was begun with the supernet {other.settings.supernet}",
                "the same weights",
                "name that file: --supernet FILE, or " + hint,
            )
        if other.weights and not self.weights and not self.settings.supernet:
            for key in _OF_SUPERNET:  # it would be trained only to be refused
                mine, theirs = getattr(self.settings, key), getattr(other.settings, key)
                if _plain(mine) != _plain(theirs):
                    raise InputError(f"study {name!r} was begun with {key} {_plain(theirs)}", f"{_plain(mine)}", hint)
        self.check_device(other)

    def check_device(self, other: StudyIdentity) -> None:
        """Raise InputError if the latencies of the study are those of another device."""
        if self.device and other.device and self.device != other.device:
            hint = "resume it on such a device (a board: --on ssh:…), or search anew here"
            raise InputError(
                f"this device ({self.device}) is not the one whose latencies the study holds", other.device, hint
            )


def identity_of(plan: SearchPlan, data: DataPair | None, weights: Path | None = None) -> StudyIdentity:
    """Return the identity of a search on this machine; ``weights`` is the file of the supernet, once it is trained."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights is not None else None
    return StudyIdentity(plan.settings, data.fingerprint if data else None, device_id(plan), digest)


def check_existing_study(identity: StudyIdentity, storage: Path | str, name: str) -> None:
    """Raise InputError if the storage holds a study of that name which is about something else; before any work."""
    record = find_record(storage, name)
    if record is not None:
        identity.check_same(StudyIdentity.from_dict(record, name), name)


def device_id(plan: SearchPlan) -> str | None:
    """Return the fingerprints of the devices that latencies are measured on; None if none are."""
    if plan.settings.latency != "measured":
        return None
    found = []
    for device in plan.devices:
        with device.measured() if device.number > 1 else nullcontext():
            found.append(device.fingerprint())
    return " ".join(found)


def _plain(value: Any) -> Any:
    """Return the value as JSON has it, for comparisons and messages."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
