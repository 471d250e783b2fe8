"""Features of a network for latency prediction: columns of which latency is a non-negative sum, and a summary.

The columns (:data:`BASIS`) enter the roofline model, the summary (:data:`SUMMARY`) measures how alike two networks are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize, SizeField
from search_spaces.op import Op

if TYPE_CHECKING:
    from latency_db.core.profiler import Network

Array = npt.NDArray[np.float64]

MATRIX = ("conv", "deconv", "matmul")
"""Kinds of operations that are matrix products: (positions x taps) times (taps x channels)."""
ALIGNED = 8
"""Channels: other multiples make tensor cores and vector units compute padding or use slower kernels."""
# Grids from phones to servers, in steps of a factor of 2 to 3; the fit on each device decides which entries count.
SMALLEST_MACS = tuple(10 ** (6 + i / 2) for i in range(7))
BALANCES = (8, 16, 32, 64, 128, 256)
TILES = ((32, 32), (64, 64), (128, 64), (128, 128))
PROCESSORS = (4, 8, 16, 32, 64, 128, 256)
PADDINGS = (8, 16, 32)


@dataclass(frozen=True)
class Features:
    """Features of a network.

    Attributes:
        basis: Values in the order of :data:`BASIS`.
        summary: Values in the order of :data:`SUMMARY`.
        family: A search space or a YOLO version; its networks share a random effect.
        image_size: Of the images; networks of one size share a random effect.

    Raises:
        InputError: A wrong number of values, or a value that is not finite.
    """

    basis: tuple[float, ...]
    summary: tuple[float, ...]
    family: str
    image_size: SizeField = SizeField()

    def __post_init__(self) -> None:
        for name, values, names in (("basis", self.basis, BASIS), ("summary", self.summary, SUMMARY)):
            if len(values) != len(names) or not all(map(math.isfinite, values)):
                raise InputError(
                    f"{name} {values} of a network",
                    f"{len(names)} finite numbers",
                    "it was written by another version of this package",
                )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready value, of which :meth:`from_dict` makes an equal one."""
        return {
            "basis": list(self.basis),
            "summary": list(self.summary),
            "family": self.family,
            "image_size": self.image_size.value,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Features:
        """Return the features of a value of :meth:`to_dict`. Raises InputError for anything else."""
        try:
            return cls(tuple(data["basis"]), tuple(data["summary"]), str(data["family"]), data["image_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not features of a network ({type(error).__name__}: {error})", "an object with basis, summary, family"
            ) from None


def features(ops: Sequence[Op], image_size: AnySize, batch: int = 1, family: str = "") -> Features:
    """Return the features of fused operations on ``batch`` images.

    Args:
        ops: Operations of ``search_spaces.trace``, at batch 1.
        image_size: Of the images.
        batch: Images in a batch.
        family: Networks of one family share a random effect.

    Raises:
        InputError: There is no matrix product.
    """
    o = _Table.of(ops, batch)
    if not o.matrix.any():
        raise InputError("a network without convolutions", "at least one")
    return Features(
        tuple(_basis(o).values()), tuple(_summary(o, ImageSize.of(image_size)).values()), family, image_size
    )


@lru_cache(20_000)
def network_features(network: Network, batch: int = 1) -> Features:
    """Return the features of a network of a registered search space; its family is the space.

    Raises:
        InputError: The search space is not registered, or the architecture is none of its own.
    """
    from search_spaces.spaces import space_of
    from search_spaces.trace import trace

    space = space_of(network.architecture)
    cost = trace(space.graph(network.architecture), network.classes, network.image_size)
    return features(cost.ops, network.image_size, batch, space.name)


@dataclass(frozen=True)
class _Table:
    """Operations as columns of one number each, (operations,).

    A matrix product multiplies (``positions``, taps) by (taps, ``channels``), ``groups`` times.
    """

    kind: npt.NDArray[np.str_]
    macs: Array
    traffic: Array
    weights: Array
    kernel: Array
    groups: Array
    channels_in: Array
    channels: Array
    positions: Array

    @classmethod
    def of(cls, ops: Sequence[Op], batch: int) -> _Table:
        rows = [
            (
                batch * op.macs,
                batch * (sum(map(math.prod, op.inputs)) + math.prod(op.output)),
                op.params,
                op.kernel,
                op.groups,
                op.inputs[0][0],
                op.output[0],
                batch * math.prod(op.output[1:]),
            )
            for op in ops
        ]
        return cls(np.array([op.kind for op in ops]), *np.array(rows, dtype=np.float64).reshape(-1, 8).T)

    @property
    def matrix(self) -> npt.NDArray[np.bool_]:
        return np.isin(self.kind, MATRIX)

    @property
    def unaligned(self) -> npt.NDArray[np.bool_]:
        """Matrix products with channels that are no multiple of 8, other than the three of an image."""
        odd = ((self.channels_in % ALIGNED > 0) & (self.channels_in > 4)) | (self.channels % ALIGNED > 0)
        return self.matrix & odd


def _basis(o: _Table) -> dict[str, float]:
    """Return columns in counts, 10^9 MACs and 10^6 elements; each is proportional to the time of one effect alone.

    The time of an operation is the larger one of computing and moving data (Williams et al., "Roofline",
    doi:10.1145/1498765.1498785), for a grid of balances between the two. A small operation takes as long as one that
    fills the device. A matrix product consists of whole tiles, and these run in whole waves over the processors
    (NVIDIA, "Matrix Multiplication Background": tile and wave quantization).
    """
    m, one = o.matrix, o.groups == 1
    traffic = o.traffic + o.weights
    out = {"fixed": 1.0, "matrix products": float(m.sum()), "other operations": float((~m).sum())}
    for name, chosen in (
        ("GMACs, 3x3 and larger", m & one & (o.kernel > 1)),
        ("GMACs, 1x1", m & one & (o.kernel == 1)),
        ("GMACs, grouped", m & ~one),
    ):
        out[name] = o.macs[chosen].sum() / 1e9
    for name, chosen in (
        ("products", m),
        ("concatenations", o.kind == "concat"),
        ("others", ~m & (o.kind != "concat")),
    ):
        out[f"M elements moved, {name}"] = o.traffic[chosen].sum() / 1e6
    out["M weights"] = o.weights.sum() / 1e6
    for least in SMALLEST_MACS:
        out[f"GMACs, at least {least:.1e} each"] = np.maximum(o.macs[m], least).sum() / 1e9
    for balance in BALANCES:
        out[f"roofline at {balance} MACs per element"] = np.maximum(o.macs, balance * traffic)[m].sum() / 1e9
    for rows, columns in TILES:
        out |= _tiled(o, rows, columns)
    for multiple in PADDINGS:
        width = _up(o.channels_in, multiple) / o.channels_in * _up(o.channels, multiple) / o.channels
        out[f"GMACs, channels padded to {multiple}"] = (o.macs * width)[m].sum() / 1e9
    odd = o.unaligned
    return {
        **{name: float(value) for name, value in out.items()},
        "unaligned products": float(odd.sum()),
        "GMACs, unaligned": float(o.macs[odd].sum() / 1e9),
        "M elements moved, unaligned": float(o.traffic[odd].sum() / 1e6),
    }


def _tiled(o: _Table, rows: int, columns: int) -> dict[str, float]:
    m = o.matrix
    work = rows * columns * o.macs[m] / (o.positions * o.channels)[m] / 1e9  # GMACs of one whole tile
    tiles = np.ceil(o.positions / rows)[m] * np.ceil(o.channels / o.groups / columns)[m] * o.groups[m]
    out = {f"GMACs in tiles of {rows}x{columns}": (tiles * work).sum()}
    for count in PROCESSORS:
        out[f"GMACs in waves of {count} tiles of {rows}x{columns}"] = (np.ceil(tiles / count) * count * work).sum()
    return out


def _summary(o: _Table, image_size: ImageSize) -> dict[str, float]:
    """Return the summary of a network, in natural logarithms and shares."""
    m = o.matrix
    macs = o.macs[m]
    share = macs / macs.sum()
    logs = np.log(np.maximum(macs, 1))
    return {
        "log MACs": math.log(macs.sum()),
        "log elements moved": math.log(o.traffic.sum()),
        "log weights": math.log(max(o.weights.sum(), 1)),
        "log number of matrix products": math.log(m.sum()),
        "log number of other operations": math.log(1 + (~m).sum()),
        "share of MACs in 3x3 and larger": float(share[o.kernel[m] > 1].sum()),
        "share of MACs with unaligned channels": float(share[o.unaligned[m]].sum()),
        "share of data moved by other operations": float(o.traffic[~m].sum() / o.traffic.sum()),
        "log input channels, weighted by MACs": float(share @ np.log(o.channels_in[m])),
        "log positions, weighted by MACs": float(share @ np.log(o.positions[m])),
        "log MACs of a product, mean": float(logs.mean()),
        "log MACs of a product, deviation": float(logs.std()),
        "log image size": math.log(image_size.side),
    }


def _up(values: Array, multiple: int) -> Array:
    return np.asarray(np.ceil(values / multiple) * multiple)


_EXAMPLE = _Table.of((Op("conv", ((3, 8, 8),), (8, 8, 8), 1, 1, 1, 1536, 32),), 1)
BASIS = tuple(_basis(_EXAMPLE))
SUMMARY = tuple(_summary(_EXAMPLE, ImageSize(8, 8)))
