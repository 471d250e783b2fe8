"""The supernet of a run: given, trained earlier, or trained now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.data.transforms import Augmentation
from nas.search.plan import SearchPlan
from nas.search.settings import SearchSettings
from nas.search.supernet_budget import SupernetBudget, supernet_budget
from nas.supernet.supernet import Supernet
from nas.supernet.weights import interpolation_of, load_supernet, record_of, space_of_supernet, trained_image_sizes
from nas.training.data import as_trained, open_training_data, training_batches
from nas.training.job import TrainJob
from nas.training.train_supernet import train_supernet
from search_spaces.errors import InputError

SUPERNET_FILE = "supernet.safetensors"


@dataclass(frozen=True)
class SupernetSource:
    """Where the supernet of a run comes from.

    Args:
        path: File of its weights.
        ready: The loaded supernet; None if it has to be trained into ``path``.
    """

    path: Path
    ready: Supernet | None


def search_data(settings: SearchSettings, reporter: Reporter, supernet: Path | None = None) -> DataPair | None:
    """Open the data set of a search, with the augmentation and the interpolation that its supernet is trained with; None
    if it has none.

    ``supernet``: file of the supernet on this machine; by default the weights that the settings name. Raises InputError
    if the data set or the weights cannot be read.
    """
    if settings.data is None:
        return None
    named = settings.supernet or settings.init
    weights = supernet or (Path(named) if named else None)
    data = open_training_data(settings.data, settings.limit, reporter)
    if supernet or settings.supernet:
        return as_trained(data, record_of(weights), str(weights))
    own = data.augmentation.changed(settings.recipe.get("augmentation", {})) if settings.augment else Augmentation.NONE
    return data.interpolated(interpolation_of(weights)).augmented(own)


def supernet_source(plan: SearchPlan, data: DataPair, folder: Path) -> SupernetSource:
    """Find the supernet that the settings name or the run has trained, and check that it fits.

    Raises InputError if a supernet was trained for other classes or lacks values of the space, or if the data set does
    not fill a batch of a training that is still to be done.
    """
    given = plan.settings.supernet
    path = Path(given) if given else folder / SUPERNET_FILE
    if not given and not path.exists():
        training_batches(data, training_budget(plan, data).recipe, plan.space.image_sizes, plan.settings.augment)
        return SupernetSource(path, None)
    supernet, classes, _ = load_supernet(path)
    if classes != data.classes:
        raise InputError(
            f"{path} was trained for classes {list(classes)}", f"those of the data set: {list(data.classes)}"
        )
    for choice in plan.space.choices:
        if missing := [v for v in choice.values if choice.weights and v not in supernet.space[choice.name].values]:
            raise InputError(
                f"{choice.name} = {missing} of the search",
                f"values the supernet has: {supernet.space[choice.name].values}",
            )
    return SupernetSource(path, supernet)


def sizes_without_training(plan: SearchPlan, path: Path) -> str:
    """Return a note that names the image sizes of a search that its supernet was not trained at; empty if none."""
    trained = trained_image_sizes(space_of_supernet(path), record_of(path), str(path))
    if not (others := [str(size) for size in plan.space.image_sizes if size not in trained]):
        return ""
    return (
        f"{path} was trained at image size {', '.join(map(str, trained))}: the mAP of candidates at {', '.join(others)}"
        " is underestimated; train a supernet with these sizes, or search without them (--fix image_size=…)"
    )


def open_supernet(plan: SearchPlan, source: SupernetSource, data: DataPair, reporter: Reporter) -> Supernet:
    """Return the supernet on the plan's device, trained now if need be; an interrupted training resumes."""
    supernet = source.ready
    if supernet is None:
        budget = training_budget(plan, data)
        reporter.note(str(budget))
        init = plan.settings.init
        job = TrainJob(
            data, budget.recipe, Path(init) if init else None, augment=plan.settings.augment, compute=plan.compute
        )
        supernet = train_supernet(plan.space, job, source.path, reporter)
    elif note := sizes_without_training(plan, source.path):
        reporter.note(note)
    return supernet.to(device_of(plan.settings.device))


def training_budget(plan: SearchPlan, data: DataPair) -> SupernetBudget:
    """Return the training budget of the plan's supernet on a data set."""
    return supernet_budget(plan.recipe, plan.settings.recipe, len(data.train), plan.space.image_sizes)
