"""A search space: named ordered choices, and how a point of it becomes a network."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

from search_spaces.architecture import Architecture, Value
from search_spaces.errors import InputError
from search_spaces.graph import Graph
from search_spaces.image_size import ImageSize
from search_spaces.registry import unknown

if TYPE_CHECKING:
    from search_spaces.detector import Detector


@dataclass(frozen=True)
class Choice:
    """One dimension. ``ordered``: every value contains the ones before it (a width, a depth); else the values are
    alternatives (a block type).

    ``weights`` is false for a choice that changes no weight's shape (the image size). ``rectangles``: besides
    ``values``, the choice takes every rectangle ``"HEIGHTxWIDTH"`` that networks take. A search proposes rectangles
    only from a restriction that lists them (:meth:`SearchSpace.restrict`).
    """

    name: str
    values: tuple[Value, ...]
    ordered: bool = True
    weights: bool = True
    rectangles: bool = False

    def index(self, value: Value) -> int:
        """Return the position of ``value``. Raises InputError for an unknown one."""
        for i, known in enumerate(self.values):
            if known == value and type(known) is type(value):
                return i
        raise unknown(f"value of {self.name!r}:", value, self.values)

    def takes(self, value: Value) -> bool:
        """Return whether the choice takes ``value``. Raises InputError for a rectangle that no network takes."""
        listed = any(known == value and type(known) is type(value) for known in self.values)
        return listed or (self.rectangles and _is_rectangle(value))

    def check(self, value: Value) -> None:
        """Raises InputError unless the choice takes ``value``."""
        if not self.takes(value):
            self.index(value)

    def restrict(self, kept: tuple[Value, ...]) -> Choice:
        """Return the choice among ``kept`` only, in the order of the space; rectangles are ordered by their area."""
        values = [v for v in self.values if v in kept]
        if rectangles := {v for v in kept if v not in values}:
            values = sorted((*values, *rectangles), key=ImageSize.of)  # type: ignore[arg-type]
        return replace(self, values=tuple(values), rectangles=False)


def _is_rectangle(value: Value) -> bool:
    """Whether a value is the canonical text of a rectangle that networks take. Raises InputError for a wrong size."""
    if not isinstance(value, str):
        return False
    size = ImageSize.of(value).check()
    return size.value == value


def _prime(least: int) -> int:
    """The smallest prime that is not below ``least``."""
    number = max(2, least)
    while any(number % d == 0 for d in range(2, math.isqrt(number) + 1)):
        number += 1
    return number


@dataclass(frozen=True)
class SearchSpace:
    """Named ordered choices and the function from a point of them to a network graph (plain values, no torch).

    There are no inactive choices: two architectures never mean one network. ``version`` counts up whenever the network
    of an architecture changes. Architectures of the versions in ``earlier`` are still read, and mean the network that
    they meant then.

    ``options`` are choices that no search proposes, for networks that others have trained. An architecture names one
    after its choices, and only where it differs from what a network of the space usually has.
    """

    name: str
    version: int
    choices: tuple[Choice, ...]
    graph: Callable[[Architecture], Graph]
    earlier: tuple[SearchSpace, ...] = ()
    options: tuple[Choice, ...] = ()

    def at_version(self, version: int) -> SearchSpace:
        """Return this space as it was at ``version``.

        If no such version is kept, return the space itself; :meth:`check` then raises.
        """
        return next((space for space in self.earlier if space.version == version), self)

    @property
    def size(self) -> int:
        """Return the number of architectures."""
        return math.prod(len(c.values) for c in self.choices)

    @cached_property
    def _by_name(self) -> dict[str, Choice]:
        return {c.name: c for c in self.choices}

    def __getitem__(self, name: str) -> Choice:
        if name not in self._by_name:
            raise unknown(f"choice of {self.name}", name, self._by_name)
        return self._by_name[name]

    def architecture(self, **values: Value) -> Architecture:
        """Return the point with these values, one for each choice.

        Raises InputError if a choice is missing or unknown, or a value is not one of its choice.
        """
        for name in values:
            self[name]
        if missing := [c.name for c in self.choices if c.name not in values]:
            raise InputError(
                f"architecture of {self.name} lacks {missing}", f"a value for each of {list(self._by_name)}"
            )
        return self.check(self._point(lambda c: values[c.name]))

    def check(self, architecture: Architecture) -> Architecture:
        """Return the same architecture. Raises InputError if it is not a point of this space."""
        if (architecture.space, architecture.version) != (self.name, self.version):
            raise InputError(
                f"architecture of space {architecture.space} version {architecture.version}",
                f"{self.name} version {self.version}",
                "install the version of this package that made it, or search again",
            )
        names = [name for name, _ in architecture.choices]
        optional = {c.name: c for c in self.options if c.name in names}
        if names != [*self._by_name, *optional]:
            raise InputError(f"architecture with choices {names}", f"exactly {list(self._by_name)} in this order")
        for name, value in architecture.choices:
            (optional.get(name) or self[name]).check(value)
        return architecture

    def with_options(self, architecture: Architecture, **values: Value) -> Architecture:
        """Return an architecture with these options alone; without ``values``, the network that the space usually has.

        Raises InputError for an unknown option or value.
        """
        own = tuple((name, value) for name, value in architecture.choices if name in self._by_name)
        added = tuple((c.name, values[c.name]) for c in self.options if c.name in values)
        if others := sorted(values.keys() - {name for name, _ in added}):
            raise InputError(f"options {others} of {self.name}", f"some of {[c.name for c in self.options]}")
        return self.check(replace(architecture, choices=own + added))

    def build(self, architecture: Architecture, num_classes: int = 80) -> Detector:
        """Build the network of a point, freshly initialised, in training form."""
        from search_spaces.detector import Detector

        return Detector(self.graph(self.check(architecture)), num_classes)

    def restrict(self, fixed: Mapping[str, tuple[Value, ...]]) -> SearchSpace:
        """Return the part of this space in which the named choices take only these values.

        Its points are points of the whole. Raises InputError for an unknown name or value, or if no value is left.
        """
        for name, values in fixed.items():
            for value in values:
                self[name].check(value)
            if not values:
                raise InputError(f"no value left for {name!r}", f"some of {self[name].values}")
        return replace(self, choices=tuple(c.restrict(fixed[c.name]) if c.name in fixed else c for c in self.choices))

    @property
    def image_sizes(self) -> tuple[ImageSize, ...]:
        """Return the values of the choice ``image_size``, smallest first."""
        return tuple(ImageSize.of(v) for v in self["image_size"].values)  # type: ignore[arg-type]

    def nearest_size(self, size: ImageSize) -> ImageSize:
        """Return ``size`` if the space has it, else the size whose area is nearest, by its square root."""
        choice = self["image_size"]
        if size in self.image_sizes or (choice.rectangles and not size.is_square):
            return size
        return min(self.image_sizes, key=lambda own: abs(own.side - size.side))

    def _point(self, pick: Callable[[Choice], Value]) -> Architecture:
        return Architecture(self.name, self.version, tuple((c.name, pick(c)) for c in self.choices))

    def sample(self, rng: random.Random) -> Architecture:
        """Sample a point uniformly over the choices."""
        return self._point(lambda c: rng.choice(c.values))

    @cached_property
    def smallest(self) -> Architecture:
        """Return the point with the first value of every choice."""
        return self._point(lambda c: c.values[0])

    @cached_property
    def largest(self) -> Architecture:
        """Return the point with the last value of every choice."""
        return self._point(lambda c: c.values[-1])

    def extreme(self, end: int, rng: random.Random) -> Architecture:
        """Sample a smallest (``end=0``) or largest (``end=-1``) point.

        Choices that are ordered and have weights take their extreme, the others a random value. The sandwich rule
        trains such points and not one fixed extreme, so that every alternative is trained at its ends.
        """
        return self._point(lambda c: c.values[end] if c.ordered and c.weights else rng.choice(c.values))

    def corners(self) -> Iterator[Architecture]:
        """Yield largest architectures that differ in the alternatives; together they hold every weight of the space.

        Which cells there are may depend on two choices together (a neck, and the block in it), so pairs of
        alternatives are enumerated: row (a, b) of an orthogonal array takes of the m-th choice the value a + m b
        modulo a prime. Rows without a new cell are left out.
        """
        alternatives = [c for c in self.choices if not c.ordered]
        number = {c.name: m for m, c in enumerate(alternatives)}
        prime = _prime(max([len(alternatives), *(len(c.values) for c in alternatives)], default=1))
        seen: set[tuple[str, str]] = set()
        for b in range(prime):
            for a in range(prime):

                def value(c: Choice, a: int = a, b: int = b) -> Value:
                    return c.values[-1 if c.ordered else (a + number[c.name] * b) % prime % len(c.values)]

                point = self._point(value)
                graph = self.graph(point)
                cells = {(n.name, n.kind) for n in (*graph.nodes, graph.head)}
                if not cells <= seen:
                    seen |= cells
                    yield point

    def mutate(self, architecture: Architecture, rng: random.Random, probability: float) -> Architecture:
        """Return the point with each choice sampled anew with ``probability``."""
        return self._point(lambda c: rng.choice(c.values) if rng.random() < probability else architecture[c.name])

    def crossover(self, a: Architecture, b: Architecture, rng: random.Random) -> Architecture:
        """Return a point that takes each choice from one of the two parents."""
        return self._point(lambda c: rng.choice((a, b))[c.name])

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Yield all points that differ in exactly one choice."""
        for c in self.choices:
            yield from (architecture.replace(**{c.name: v}) for v in c.values if v != architecture[c.name])

    def encode(self, architecture: Architecture) -> list[float]:
        """Encode a point as numbers in [0, 1], the same number of them for every point.

        An ordered choice is its rank, alternatives are one-hot.
        """
        out: list[float] = []
        for c in self.choices:
            i = c.index(architecture[c.name])
            if c.ordered:
                out.append(i / max(1, len(c.values) - 1))
            else:
                out.extend(float(i == j) for j in range(len(c.values)))
        return out

    def enumerate(self) -> Iterator[Architecture]:
        """Yield every point, for spaces (or restrictions) that are small enough."""
        for values in product(*(c.values for c in self.choices)):
            yield Architecture(self.name, self.version, tuple(zip((c.name for c in self.choices), values, strict=True)))
