"""Targets: what a network runs on, as a value and as text (``onnxruntime:int8@640``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latency_db.core.runtime_registry import RUNTIMES
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize, OptionalSizeField
from search_spaces.registry import unknown

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
DEFAULT_DEVICE = "cpu"
GRAMMAR = (
    "runtime[:precision][@image_size][/b<batch>][/t<threads>][/device], "
    "for example onnxruntime:fp32@384x640 or tensorrt:fp16@640/b8/cuda:1"
)

_RUNTIME = re.compile(r"[a-z][a-z0-9_-]*")
_DEVICE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*")
_COUNT = re.compile(r"([bt])([0-9].*)?")


@dataclass(frozen=True)
class Target:
    """Runtime, precision, device, image size, batch and threads.

    With the fingerprint of the machine these are all that the latency of a network depends on.

    Attributes:
        runtime: Name in :data:`latency_db.core.runtime_registry.RUNTIMES`.
        precision: One of :data:`PRECISIONS`.
        device: Device of the runtime, such as ``cuda:0``; empty becomes the runtime's default, so that both are one
            value. Of a recorded table its name.
        image_size: Of the images, a square or height x width; None is the architecture's own.
        batch: Images per run.
        threads: CPU threads.

    Raises:
        InputError: A field has an unknown or impossible value.
    """

    runtime: str
    precision: str = "fp32"
    device: str = ""
    image_size: OptionalSizeField = OptionalSizeField()
    batch: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        if not _RUNTIME.fullmatch(self.runtime):
            raise InputError(f"runtime name {self.runtime!r}", "a lower-case word", f"a target is written {GRAMMAR}")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if not self.device:
            object.__setattr__(self, "device", _default_device(self.runtime))
        if not _DEVICE.fullmatch(self.device) or _COUNT.fullmatch(self.device):
            raise InputError(f"device {self.device!r} of a target", "a word such as cpu, cuda:0 or GPU.1")
        sides = () if self.image_size is None else self.image_size.shape
        numbers = (*(("image size", side) for side in sides), ("batch", self.batch), ("threads", self.threads))
        for name, number in numbers:
            if not isinstance(number, int) or not 0 < number < 10**6:
                raise InputError(f"{name} {number!r} of a target", "a whole number from 1 to 999999")

    def __str__(self) -> str:
        text = f"{self.runtime}:{self.precision}"
        text += "" if self.image_size is None else f"@{self.image_size}"
        text += f"/b{self.batch}" if self.batch != 1 else ""
        text += f"/t{self.threads}" if self.threads != 1 else ""
        return text + (f"/{self.device}" if self.device != _default_device(self.runtime) else "")

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse what a user typed. Raises InputError for another form, and for an unknown runtime."""
        target = cls.read(text)
        if target.runtime not in RUNTIMES:
            raise unknown("runtime", target.runtime, tuple(RUNTIMES))
        return target

    @classmethod
    def read(cls, text: str) -> Target:
        """Parse a target, also of a runtime that is not registered here; the exact inverse of ``str``.

        Raises:
            InputError: The text has another form.
        """
        head, *suffixes = text.split("/")
        head, at, size = head.partition("@")
        runtime, colon, precision = head.partition(":")
        options: dict[str, str] = {}
        for suffix in suffixes:
            kind = {"b": "batch", "t": "threads"}[suffix[0]] if _COUNT.fullmatch(suffix) else "device"
            if kind in options or not suffix:
                raise InputError(f"target {text!r}", GRAMMAR)
            options[kind] = suffix
        return cls(
            runtime,
            precision if colon else "fp32",
            options.get("device", ""),
            _size(size, text) if at else None,
            _number(options.get("batch", "b1")[1:], "batch", text),
            _number(options.get("threads", "t1")[1:], "threads", text),
        )


def _size(size: str, text: str) -> ImageSize:
    try:
        return ImageSize.of(size)
    except InputError:
        wanted = "a whole number from 1 to 999999, or HEIGHTxWIDTH such as 384x640"
        raise InputError(f"image size {size!r} in target {text!r}", wanted, f"a target is written {GRAMMAR}") from None


def _number(digits: str, name: str, text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", digits):
        raise InputError(
            f"{name} {digits!r} in target {text!r}", "a whole number from 1 to 999999", f"a target is written {GRAMMAR}"
        )
    return int(digits)


def _default_device(runtime: str) -> str:
    return RUNTIMES[runtime].default_device if runtime in RUNTIMES else DEFAULT_DEVICE
