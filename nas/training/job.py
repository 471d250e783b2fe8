"""What a training consists of besides the network: data, recipe, initial weights, teacher, compute and logging."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from nas.core import distributed as processes
from nas.core.architecture_file import Artifact
from nas.core.compute import device_of
from nas.data.loader import Loader
from nas.data.source import DataPair
from nas.data.transforms import AREA, Augmentation
from nas.supernet.weights import ancestors_of, digest_of, interpolation_of, is_supernet
from nas.training.data import training_batches
from nas.training.layers import LayerConfig, nodes_of
from nas.training.logging_config import LoggingConfig
from nas.training.recipe import Recipe
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize
from search_spaces.spaces import space_of


@dataclass(frozen=True)
class ComputeConfig:
    """The device of a training, and the number of processes to start for it.

    ``processes`` is for CPUs only: on GPUs, ``torchrun`` starts the processes.
    """

    device: str = "auto"
    processes: int = 1

    def check(self, recipe: Recipe) -> ComputeConfig:
        """Return itself. Raises InputError if device, processes and batch size do not go together."""
        if self.processes > 1 and device_of(self.device).type != "cpu":
            hint = f"leave --processes out, or: torchrun --nproc-per-node {self.processes} -m nas train …"
            raise InputError(f"{self.processes} processes on {self.device}", "1 process on a GPU", hint)
        if self.processes > 1 and processes.world_size() > 1:
            raise InputError(f"--processes {self.processes} in what torchrun started", "one of the two")
        together = max(self.processes, processes.world_size())
        if self.processes < 1 or recipe.batch_size % together:
            raise InputError(
                f"{together} processes for batches of {recipe.batch_size}", "a number that divides the batch size"
            )
        device_of(self.device)
        return self


@dataclass(frozen=True)
class TrainJob:
    """Everything that a training needs besides the network.

    Attributes:
        data: train and val split.
        recipe: hyperparameters.
        init: file with the initial weights, of a supernet or of a detector; None trains from scratch.
        teacher: weights file of the teacher that the detector is distilled from; None trains with labels alone.
        layers: frozen layers, and layers with a learning rate of their own.
        augment: whether images are augmented.
        compute: device and number of processes.
        logging: loggers, evaluations during the training, best weights.
    """

    data: DataPair
    recipe: Recipe = field(default_factory=Recipe)
    init: Path | None = None
    teacher: Path | None = None
    layers: LayerConfig = field(default_factory=LayerConfig)
    augment: bool = True
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def check(self, artifact: Artifact | None = None) -> None:
        """Check the job before any work. Raises InputError for settings that do not go together, and for patterns of
        ``layers`` that match no layer of ``artifact``."""
        self.compute.check(self.recipe)
        if artifact is not None:
            graph = space_of(artifact.architecture).graph(artifact.architecture)
            nodes_of(graph, (*self.layers.frozen, *(pattern for pattern, _ in self.layers.rates)))

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of the train images."""
        return self.data.augmentation.changed(self.recipe.augmentation) if self.augment else Augmentation.NONE

    def batches(self, *image_sizes: AnySize) -> Loader:
        """Return the training batches of this process; each step draws one of ``image_sizes``. Raises InputError if
        the train split does not fill one batch."""
        return training_batches(self.images, self.recipe, image_sizes, self.augment, self.compute.device)

    def frozen_cells(self, detector: Detector) -> list[nn.Module]:
        """Return the cells of ``detector`` that keep their weights and BatchNorm statistics."""
        return [detector.cell(node) for node in nodes_of(detector.graph, self.layers.frozen)]

    @property
    def images(self) -> DataPair:
        """The data set with the job's augmentation, and with images that are shrunk as the initial weights expect
        them."""
        return self.data.interpolated(interpolation_of(self.init)).augmented(self.augmentation)

    def ancestors(self) -> dict[str, Any]:
        """Return the published weights that initial weights and teacher descend from, and the interpolation of their
        images, as entries of a record; empty if there are none."""
        found: list[dict[str, Any]] = []
        for path in (self.init, self.teacher):
            found += [a for a in ancestors_of(path) if a not in found] if path is not None else []
        how = interpolation_of(self.init)
        return ({"ancestors": found} if found else {}) | ({} if how == AREA else {"interpolation": how})

    def provenance(self) -> dict[str, Any]:
        """Return what the weights record of their training (JSON-ready). A training of equal provenance gives equal
        weights, and need not be repeated."""
        found = {"recipe": self.recipe.to_dict(), "from": initial_weights(self.init), "data": self.data.fingerprint}
        if self.teacher is not None:
            found["teacher"] = f"{self.teacher.name} {digest_of(self.teacher)}"
        return {**found, **({"tuning": str(self.layers).strip()} if str(self.layers) else {})}


def initial_weights(init: Path | None) -> str:
    """Return a name of the initial weights for records and checkpoints: ``scratch``, ``supernet`` or a digest."""
    if init is None:
        return "scratch"
    return "supernet" if is_supernet(init) else f"weights {digest_of(init)}"
