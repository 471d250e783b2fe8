"""The paper that the frontier is drawn on: colours, sizes, axes with their ticks, and where a value lies in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.core.estimate import Objective
from nas.core.units import axis_label, compact
from nas.plotting.labels import XY, Box
from search_spaces.errors import InputError

# Okabe and Ito's palette, distinguishable with any colour vision; in grey print the shapes and sizes differ.
GREY, BLUE, VERMILION, GREEN = "#9AA3AD", "#0072B2", "#D55E00", "#009E73"
INK, SOFT_INK, GRID, PAPER = "#1B2733", "#5D6B78", "#E6EAEE", "#FFFFFF"
FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")

#: Pixels for which labels are placed; the HTML grows with its window and keeps the offsets.
WIDTH, HEIGHT = 1200, 800
LEFT, RIGHT, TOP, BOTTOM = 88, 36, 128, 78
TITLE_PX, SUBTITLE_PX, NAME_PX, TEXT_PX, SMALL_PX = 24, 14, 17, 14, 13
LINE_PX, ROW_PX = 19, 17


@dataclass(frozen=True)
class Axis:
    """Label, range and the values that get a tick."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    @property
    def tick_texts(self) -> tuple[str, ...]:
        """The ticks as text, all with the same number of decimals on a linear axis."""
        if self.log or max(map(abs, self.ticks), default=0.0) >= 1e4:
            return tuple(map(compact, self.ticks))
        places = max((len(f"{tick:.10g}".partition(".")[2]) for tick in self.ticks), default=0)
        return tuple(f"{tick:.{places}f}" for tick in self.ticks)

    def fraction(self, value: float) -> float:
        """Where ``value`` lies on the axis, 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Canvas:
    """A plot of ``x`` to the right and ``y`` upwards on a sheet ``WIDTH`` pixels wide, from ``top`` to ``bottom``
    pixels below the sheet's upper edge."""

    x: Axis
    y: Axis
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def area(self) -> Box:
        """The rectangle between the axes, in pixels."""
        return Box(LEFT, self.top, WIDTH - RIGHT, self.bottom)

    def pixel(self, x: float, y: float) -> XY:
        """Where a point lies, from the upper left corner."""
        area = self.area
        return area.left + self.x.fraction(x) * (area.right - area.left), area.bottom - self.y.fraction(y) * (
            area.bottom - area.top
        )


def cost_axis(
    cost: Objective, costs: Sequence[float], marks: Sequence[float], ends: Sequence[float], log: bool | None
) -> Axis:
    """Return the axis for ``costs``, other ``marks`` and ``ends`` of intervals.

    With ``log=None``, the axis is logarithmic if the costs differ by more than 8 times. Raises InputError if the axis
    has to be logarithmic and a value is not positive.
    """
    log = (min((*costs, *marks)) > 0 and max(costs) > 8 * min(costs)) if log is None else log
    text = axis_label(cost.name, cost.unit) + (", logarithmic" if log else "")
    low, high = min((*costs, *marks, *ends)), max((*costs, *marks, *ends))
    if not log:
        pad = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = (low - pad if low < 0 or low > 4 * pad else 0.0), high + pad
        return Axis(text, low, high, _linear_ticks(low, high, 9))
    if (least := min((*costs, *marks))) <= 0:
        raise InputError(f"logarithmic axis for a {cost.name} of {least:g}", "costs above zero, or a linear axis")
    low = max(low, least / 2)  # an interval may reach below zero
    pad = 1.06 if high == low else (high / low) ** 0.05
    low, high = low / pad, high * pad
    return Axis(text, low, high, _log_ticks(low, high), log=True)


def gain_axis(gain: Objective, values: Sequence[float]) -> Axis:
    """The axis that holds ``values``, with some room above for labels."""
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - pad, high + 1.6 * pad  # more above: the labels of the chosen stand there
    return Axis(axis_label(gain.name, gain.unit), low, high, _linear_ticks(low, high, 8))


def _linear_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    rough = (high - low) / count
    unit = 10 ** math.floor(math.log10(rough))
    step = next((m * unit for m in (1, 2, 2.5, 5) if m * unit >= rough), 10 * unit)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{i * step:.12g}") for i in range(first, last + 1))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    if high / low < 3:
        return _linear_ticks(low, high, 8)
    steps = next(
        s
        for limit, s in ((20, (1, 1.5, 2, 3, 4, 5, 6, 8)), (200, (1, 2, 3, 5)), (5e3, (1, 2, 5)), (math.inf, (1,)))
        if high / low <= limit
    )
    return tuple(tick for d in decades for m in steps if low <= (tick := float(f"{m * 10.0**d:.12g}")) <= high)
