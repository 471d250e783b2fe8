"""Initialisation of a supernet from a trained detector, whose architecture is a point of the search space."""

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

NARROWEST = 0.25
"""Smallest numbers of channels in a derived space, as a share of those of the trained detector."""
SMALLEST = 0.45
"""The same for depths, shares, and the ``width`` of a whole network."""
IMAGE_SIZES = (0.4, 0.6, 0.8, 1.0)
"""Sides of the images in a derived space, as shares of the trained detector's. The supernet's steps are divided among the
sizes, so there are few of them."""


@dataclass(frozen=True)
class TrainedPoint:
    """A trained detector as a point of a space.

    Args:
        architecture: The point.
        detector: The network with trained weights, for the classes of a data set.
        classes_kept: Number of classes whose trained weights were kept.
    """

    architecture: Architecture
    detector: Detector
    classes_kept: int


def default_space(artifact: Artifact) -> SearchSpace:
    """Return the default search space of a trained detector.

    It is the smallest universal space that contains the detector's network, or else the space of its architecture.

    Raises InputError if the space of its architecture is unknown.
    """
    reference = reference_of(artifact.architecture)
    for name in sorted(LIKE, key=lambda n: SPACES[n].size):
        if reference is not None and reference.name in LIKE[name]:
            return SPACES[name]
    return SPACES[space_of(artifact.architecture).name]


def place_of(artifact: Artifact, space: SearchSpace) -> Architecture:
    """Return the architecture of a trained detector as a point of ``space``.

    The image size of the point is the one in ``space`` nearest to that of the detector.

    Raises InputError if the space does not contain the network.
    """
    architecture = _without_options(artifact)
    if architecture.space == space.name:
        return space.check(_at_nearest_size(architecture, space))
    reference = reference_of(architecture)
    if reference is None:
        raise InputError(
            f"{artifact.name} of space {architecture.space}", f"weights whose network is a point of {space.name}"
        )
    return point_of(space, reference.name)


def _without_options(artifact: Artifact) -> Architecture:
    """The network as its space usually has it; class branches of another width are cut or filled in."""
    return space_of(artifact.architecture).with_options(artifact.architecture)


def _at_nearest_size(architecture: Architecture, space: SearchSpace) -> Architecture:
    return architecture.replace(image_size=space.nearest_size(architecture.image_size).value)


def derived_space(
    space: SearchSpace, point: Architecture, fixed: Mapping[str, tuple[Value, ...]] | None = None
) -> SearchSpace:
    """Restrict a space to the architectures whose weights are contained in those of a trained point.

    - Block types are those of the point.
    - Widths and depths are at most those of the point. Widths of single layers are at least :data:`NARROWEST` of them,
      depths, shares and the ``width`` of the whole network at least :data:`SMALLEST`.
    - Image sizes are those of the space that are nearest to :data:`IMAGE_SIZES` of that of the point.
    - Choices in ``fixed``, which the user has restricted, have the given values.

    Raises InputError if ``fixed`` excludes the point.
    """
    values: dict[str, tuple[Value, ...]] = {"image_size": _image_sizes(space, point), **(fixed or {})}
    for choice in space.choices:
        own = point[choice.name]
        if choice.name in values or not choice.weights:
            continue
        if not choice.ordered or isinstance(own, str):
            values[choice.name] = (own,)
        else:
            of_one_layer = isinstance(own, int) and choice.name != "width" and not choice.name.endswith("depth")
            least = (NARROWEST if of_one_layer else SMALLEST) * float(own)
            values[choice.name] = tuple(v for v in choice.values if least <= float(v) <= float(own))
    restricted = space.restrict(values)
    restricted.check(_at_nearest_size(point, restricted))
    return restricted


def _image_sizes(space: SearchSpace, point: Architecture) -> tuple[Value, ...]:
    side = point.image_size.side
    nearest = {min(space.image_sizes, key=lambda size: abs(size.side - share * side)) for share in IMAGE_SIZES}
    return tuple(size.value for size in sorted(nearest))


def space_from(init: Path, name: str | None = None, fix: Sequence[str] = ()) -> SearchSpace:
    """Return the search space of a supernet that is initialised from a trained detector.

    Args:
        init: Weights file of the detector.
        name: Name of the space to restrict (default: :func:`default_space`).
        fix: Restrictions in the form of the command line (``image_size=320``). The other choices are restricted by
            :func:`derived_space`.

    Raises:
        InputError: if the file cannot be read, or the space does not contain its network.
    """
    _, artifact, _ = load_detector(init)
    space = default_space(artifact) if name is None else SPACES[name]
    return derived_space(space, place_of(artifact, space), fixed_values(space, fix))


def trained_point(init: Path, space: SearchSpace, classes: tuple[str, ...], order: bool = True) -> TrainedPoint:
    """Read a trained detector as a point of a space.

    Args:
        init: Weights file of the detector.
        space: The space.
        classes: Class names of the data set. The weights of classes that the detector has (by name) are kept; those of
            other classes are random.
        order: Whether to order channels by importance (:func:`nas.supernet.channel_importance.order_channels`), so
            that narrower architectures contain the most important channels.

    Raises:
        InputError: if the file cannot be read, or the space does not contain the network.
    """
    source, artifact, _ = load_detector(init)
    point = place_of(artifact, space)
    if order:
        order_channels(source)  # before class branches may get narrower, which keeps their leading channels
    own = space_of(artifact.architecture).build(_without_options(artifact), len(classes))
    kept = transfer(source, artifact.classes, own, classes).classes
    placed = space.build(point, len(classes))
    _copy_in_order(own, placed, artifact, space)
    return TrainedPoint(point, placed, kept)


@torch.no_grad()
def _copy_in_order(source: Detector, target: Detector, artifact: Artifact, space: SearchSpace) -> None:
    """Copy weights between one network's forms in two spaces, whose tensors differ in their names only."""
    theirs, ours = source.state_dict(), target.state_dict()
    shapes = [t.shape for t in theirs.values()], [t.shape for t in ours.values()]
    if shapes[0] != shapes[1]:
        raise InputError(f"{artifact.name} is another network in {space.name}", "a space that holds it exactly")
    target.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    target.eval()


def initial_supernet(space: SearchSpace, classes: tuple[str, ...], init: Path | None) -> Supernet:
    """Make a supernet with random weights, and copy the weights of the trained detector ``init`` into it, if given.

    Raises InputError if ``init`` cannot be read, or if ``space`` does not contain its network.
    """
    supernet = Supernet(space, len(classes))
    if init is not None:
        trained = trained_point(init, space, classes)
        supernet.fill(trained.architecture, trained.detector)
    return supernet


def covered(supernet: Supernet, point: Architecture) -> float:
    """Return the share of a supernet's weights that an architecture uses, 0 to 1."""
    whole = sum(p.numel() for p in supernet.weights.values())
    return math.fsum(t.numel() for t in supernet.parameters_of(point).values()) / whole
