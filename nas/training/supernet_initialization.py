"""A trained detector as the beginning of a supernet: the detector is a point of the space, with all its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nas.core.architecture_file import Artifact
from nas.core.references import reference_of
from nas.supernet.channel_importance import order_channels
from nas.supernet.supernet import Supernet
from nas.supernet.weights import load_detector
from nas.training.transfer import transfer
from search_spaces.architecture import Architecture, Value
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.fixed_values import fixed_values
from search_spaces.references import LIKE, point_of
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES, space_of

NARROWEST = 0.45
"""Widths and depths of a derived space, as shares of the trained detector's: below, little of it is left."""
TRAINED_LR = 1e-3
"""Peak learning rate of a supernet that begins with trained weights, where none is given."""


@dataclass(frozen=True)
class TrainedPoint:
    """A trained detector as a point of a space: where it lies, and its network with the classes of a data set."""

    architecture: Architecture
    detector: Detector
    classes_kept: int


def default_space(artifact: Artifact) -> SearchSpace:
    """The space that a trained detector is searched in: the smallest universal one that holds it, else its own.

    Raises InputError if the space of its architecture is not known.
    """
    reference = reference_of(artifact.architecture)
    for name in sorted(LIKE, key=lambda n: SPACES[n].size):
        if reference is not None and reference.name in LIKE[name]:
            return SPACES[name]
    return SPACES[space_of(artifact.architecture).name]


def place_of(artifact: Artifact, space: SearchSpace) -> Architecture:
    """The trained detector's architecture as a point of ``space``.

    Raises InputError if the space does not hold it.
    """
    architecture = artifact.architecture
    if architecture.space == space.name:
        sizes = [int(v) for v in space["image_size"].values]
        return space.check(architecture.replace(image_size=_nearest(sizes, int(architecture["image_size"]))))
    reference = reference_of(architecture)
    if reference is None:
        raise InputError(
            f"{artifact.name} of space {architecture.space}", f"weights whose network is a point of {space.name}"
        )
    return point_of(space, reference.name)


def _nearest(sizes: list[int], wanted: int) -> int:
    return min(sizes, key=lambda size: abs(size - wanted))


def derived_space(
    space: SearchSpace, point: Architecture, fixed: Mapping[str, tuple[Value, ...]] | None = None
) -> SearchSpace:
    """The part of a space whose weights a trained point covers: its block types, widths and depths up to its own.

    Values below :data:`NARROWEST` of the point's are left out. ``fixed``: choices that the user has restricted; they
    stay as they are. Choices without weights (the image size) stay free. Raises InputError if ``fixed`` leaves the
    point out.
    """
    values: dict[str, tuple[Value, ...]] = dict(fixed or {})
    for choice in space.choices:
        own = point[choice.name]
        if choice.name in values or not choice.weights:
            continue
        if not choice.ordered or isinstance(own, str):
            values[choice.name] = (own,)
        else:
            values[choice.name] = tuple(v for v in choice.values if NARROWEST * float(own) <= float(v) <= float(own))
    restricted = space.restrict(values)
    sizes = [int(v) for v in restricted["image_size"].values]
    restricted.check(point.replace(image_size=_nearest(sizes, int(point["image_size"]))))
    return restricted


def space_from(init: Path, name: str | None = None, fix: Sequence[str] = ()) -> SearchSpace:
    """The space of a supernet that begins with a trained detector.

    ``name``: of the whole space (default: :func:`default_space`). ``fix``: restrictions as the command line has them
    (``image_size=320``); the other choices are restricted to what the detector covers.

    Raises InputError if the file cannot be read, or the space does not hold its network.
    """
    _, artifact, _ = load_detector(init)
    space = default_space(artifact) if name is None else SPACES[name]
    return derived_space(space, place_of(artifact, space), fixed_values(space, fix))


def trained_point(init: Path, space: SearchSpace, classes: tuple[str, ...], order: bool = True) -> TrainedPoint:
    """Read a trained detector and place it in a space.

    Rows of classes that both know (by name) are kept, others begin anew. With ``order``, channels are ordered by
    importance first, so that narrower architectures keep what matters.

    Raises InputError if the file cannot be read or the space does not hold the network.
    """
    source, artifact, _ = load_detector(init)
    point = place_of(artifact, space)
    own = space_of(artifact.architecture).build(artifact.architecture, len(classes))
    kept = transfer(source, artifact.classes, own, classes).classes
    if order:
        order_channels(own)
    placed = space.build(point, len(classes))
    _copy_in_order(own, placed, artifact, space)
    return TrainedPoint(point, placed, kept)


@torch.no_grad()
def _copy_in_order(source: Detector, target: Detector, artifact: Artifact, space: SearchSpace) -> None:
    """Copy between two spaces' forms of one network: the same tensors in the same order under other names."""
    theirs, ours = source.state_dict(), target.state_dict()
    shapes = [t.shape for t in theirs.values()], [t.shape for t in ours.values()]
    if shapes[0] != shapes[1]:
        raise InputError(f"{artifact.name} is another network in {space.name}", "a space that holds it exactly")
    target.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    target.eval()


def initial_supernet(space: SearchSpace, classes: tuple[str, ...], init: Path | None) -> Supernet:
    """A supernet with random weights, or with those of a trained detector wherever its network lies.

    Raises InputError if the file cannot be read, or if ``space`` does not hold its network.
    """
    supernet = Supernet(space, len(classes))
    if init is not None:
        trained = trained_point(init, space, classes)
        supernet.fill(trained.architecture, trained.detector)
    return supernet


def covered(supernet: Supernet, point: Architecture) -> float:
    """The share of a supernet's weights that a point covers, 0 to 1."""
    whole = sum(p.numel() for p in supernet.weights.values())
    return math.fsum(t.numel() for t in supernet.parameters_of(point).values()) / whole
