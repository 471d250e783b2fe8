"""The data of a training: opening a data set, its problems as notes, and the batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nas.core import distributed as processes
from nas.core.architecture_file import Artifact
from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.data.loader import Loader, LoaderConfig
from nas.data.source import DataPair, open_data
from nas.data.transforms import Augmentation
from nas.supernet.weights import interpolation_in
from nas.training.recipe import Recipe
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.text import brief

MAX_LOADERS = 8
"""Threads that prepare batches for a GPU. More of them wait for the interpreter's lock."""
CACHE_BYTES = 2 << 30
"""Decoded images kept in memory during a training, by all processes together."""


def open_training_data(spec: str, limit: int | None, reporter: Reporter) -> DataPair:
    """Open a data set and report its problems, one note each. Raises InputError if it cannot be opened."""
    return open_data(spec, limit=limit, on_problem=lambda line: reporter.note(f"data: {line}"))


def as_trained(data: DataPair, record: Mapping[str, Any], where: str) -> DataPair:
    """Return a data set with the interpolation and the augmentation that the weights of a record were trained with.

    Weights without such a record leave the data set's own. Raises InputError that names ``where`` for values that are
    none.
    """
    own = record.get("augmentation", {})
    if not isinstance(own, Mapping):
        raise InputError(f"{where}: augmentation {brief(own)}", "values by name")
    return data.interpolated(interpolation_in(record, where)).augmented(data.augmentation.changed(own))


@contextmanager
def reporting_new_problems(data: DataPair, reporter: Reporter) -> Iterator[None]:
    """Report, at the end of the context, the problems that only decoding has shown: images that were left out."""
    before = set(data.problems())
    yield
    for line in data.problems():
        if line not in before:
            reporter.note(f"data: {line}")


def training_batches(
    data: DataPair, recipe: Recipe, image_sizes: Sequence[AnySize], augment: bool, device: str = "cpu"
) -> Loader:
    """Return this process's share of the training batches.

    A GPU takes images faster than one thread prepares them. On a CPU, more threads would only take cores from the
    network.

    Args:
        data: data set; batches come from its train split.
        recipe: batch size, number of epochs, seed and augmentation.
        image_sizes: of the images; each step draws one, with equal probability.
        augment: whether images are augmented.
        device: the device that trains.

    Raises:
        InputError: the train split does not fill one batch.
    """
    augmentation = data.augmentation.changed(recipe.augmentation) if augment else Augmentation.NONE
    sizes = tuple(ImageSize.of(size) for size in image_sizes)
    share = processes.rank(), processes.world_size()
    images = data.train.cached(CACHE_BYTES // processes.world_size())
    on_gpu = device_of(device).type != "cpu"
    workers = max(1, min(MAX_LOADERS, processes.cores() // processes.world_size() - 1)) if on_gpu else 1
    config = LoaderConfig(
        recipe.batch_size,
        sizes[-1],
        augmentation,
        recipe.seed,
        shuffle=True,
        drop_last=True,
        workers=workers,
        share=share,
        epochs=recipe.epochs,
        accumulate=recipe.accumulate,
        image_sizes=sizes,
    )
    return Loader(images, config)


def check_classes(artifact: Artifact, data: DataPair) -> None:
    """Raises InputError unless the data set has the classes of the weights, in their order."""
    if artifact.classes != data.classes:
        raise InputError(
            f"data set with classes {list(data.classes)}",
            f"those of {artifact.name}: {list(artifact.classes)}",
            "take weights that were trained on this data set",
        )
