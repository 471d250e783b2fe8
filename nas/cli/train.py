"""``nas train``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.errors import InputError

if TYPE_CHECKING:
    from nas.core.architecture_file import Artifact
    from nas.core.reporter import Reporter
    from nas.data.source import DataPair
    from nas.training.job import TrainJob

EXAMPLES = """\
  nas train runs/digits/S.json --data digits --init runs/digits/supernet.safetensors
  nas train runs/digits --data digits --init supernet --reference yolov8n    (S, M, L and a reference, side by side)
  nas train runs/coco/S.json runs/coco/M.json --data coco.yaml --ray auto     (on the GPUs of a Ray cluster)
  nas train runs/coco/M.json --data coco.yaml --epochs 100 --batch-size 64 --device cuda --out M.safetensors
  nas train yolov8n --data shop/ --image-size 320 --epochs 100               (a reference; nas models lists them)
  nas train S.json --data shop/ --recipe finetune --set mosaic=0.5 --eval-every 5 --keep best
  nas train yolov8n --data shop/ --init pretrained.safetensors --freeze stem,stage1 --layer-lr backbone=0.1
  nas train runs/digits/S.json --data digits --teacher runs/digits/L.safetensors --distill-features 1
  nas train runs/shop/S.json --data shop/ --pseudo pseudo.json --pseudo-weight 0.5
  torchrun --nproc-per-node 8 -m nas train M.json --data coco.yaml --recipe yolo-nas --device cuda --out M.safetensors"""

PICKS = ("S", "M", "L")
"""Names of architecture files in a folder without a front."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    from nas.cli.options import add_data, add_device, add_logging, add_ray, add_recipe
    from nas.cli.transfer_options import add_transfer_options

    parser.add_argument(
        "architectures",
        metavar="architecture",
        nargs="+",
        type=Path,
        help="architecture files that nas search wrote (S.json), the folder of a search (S, M and L side by side), or "
        "names of references (nas models)",
    )
    add_data(parser)
    parser.add_argument("--image-size", metavar="HxW", help="320, or 384x640 (default: the architecture's)")
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="NAME",
        help="also train this reference, side by side, at the same image size (repeatable)",
    )
    add_recipe(parser, epochs=30)
    add_logging(parser)
    add_transfer_options(parser)
    add_device(parser, training=True)
    add_ray(parser, "train several architectures side by side")
    parser.add_argument(
        "--out",
        type=Path,
        help="weights file (default: the architecture's path, .safetensors); of several architectures, their folder. "
        "An interrupted training resumes, finished weights are never replaced",
    )


def run(args: argparse.Namespace) -> int:
    """Train one architecture or several; under torchrun, take part as one of its processes."""
    from nas.core import distributed as processes

    args.architecture = args.architectures[0]  # whose folder gives names without a folder
    several = len(args.architectures) > 1 or args.architecture.is_dir() or args.reference or args.ray
    with processes.join_torchrun(args.device):
        return _train_several(args) if several else _train_one(args)


def _train_one(args: argparse.Namespace) -> int:
    from nas.cli.options import new_file, note_int8, reporter
    from nas.core.references import artifact_of, resized
    from nas.training.train_detector import train_detector
    from search_spaces.spaces import space_of

    shown = reporter()
    artifact = resized(artifact_of(args.architecture), args.image_size)
    space_of(artifact.architecture)
    out = new_file(args.out or args.architecture.with_suffix(".safetensors"), ".safetensors")
    job = _job(args, shown)
    metrics = train_detector(artifact, job, out, shown)
    shown.note(
        f"{artifact.name}: mAP50-95 {metrics.map:.3f}, mAP50 {metrics.map50:.3f} on {len(job.data.val)} val images; "
        f"written: {out}"
    )
    note_int8(shown, artifact, out, args.data)
    return 0


def _train_several(args: argparse.Namespace) -> int:
    from nas.cli.options import new_folder, note_int8
    from nas.core import distributed as processes
    from nas.core.console_reporter import ConsoleReporter
    from nas.core.references import reference_artifact, resized
    from nas.core.text_table import TextTable
    from nas.supernet.weights import is_supernet
    from nas.training.train_detector import train_detectors

    if processes.world_size() > 1:
        raise InputError("several architectures under torchrun", "one architecture, or nas train without torchrun")
    shown = ConsoleReporter()
    chosen = [resized(artifact, args.image_size) for path in args.architectures for artifact in _chosen(path)]
    size = chosen[0].architecture.image_size
    references = [reference_artifact(name, image_size=size) for name in args.reference]
    default = _folder(args.architecture)
    folder = new_folder(args.out or default)
    job = _job(args, shown)
    plain = replace(job, teacher=None, layers=type(job.layers)())
    if job.init is not None and is_supernet(job.init):
        plain = replace(plain, init=None)  # the weights of a supernet fit the architectures of its space
    jobs = [job] * len(chosen) + [plain] * len(references)
    every = [*chosen, *references]
    if len({artifact.name for artifact in every}) < len(every):
        raise InputError("two architectures of the same name", "different names: the weights would be one file")
    if args.ray is None:
        metrics = train_detectors(every, jobs, folder, shown)
    else:
        from nas.training.train_on_ray import DataSpec, train_on_ray

        if args.pseudo:
            raise InputError("--pseudo with --ray", "one of the two")
        data = DataSpec(args.data, args.limit, job.data.fingerprint)
        metrics = train_on_ray(every, jobs, folder, data, args.ray, shown)
    rows = [
        (
            artifact.name,
            f"{m.map:.3f}",
            f"{m.map50:.3f}",
            one.provenance()["from"],
            str(folder / f"{artifact.name}.safetensors"),
        )
        for artifact, one, m in zip(every, jobs, metrics, strict=True)
    ]
    shown.table(TextTable(("name", "mAP50-95", "mAP50", "initial weights", "file"), tuple(rows)))
    for artifact in chosen:
        note_int8(shown, artifact, folder / f"{artifact.name}.safetensors", args.data)
    return 0


def _folder(path: Path) -> Path:
    """Return where the weights go: beside the architecture files."""
    from nas.search.chosen_files import folder_of, front_of_run

    return folder_of(path, front_of_run(path)) if path.is_dir() else path.parent


def _chosen(path: Path) -> list[Artifact]:
    """Return the chosen architectures of a search's folder, or the one of a file or a reference. Raises InputError if
    the folder has none."""
    from nas.core.architecture_file import read_artifact
    from nas.core.references import artifact_of
    from nas.search.chosen_files import chosen_files

    if not path.is_dir():
        return [artifact_of(path)]
    named = chosen_files(path) or {name: path / f"{name}.json" for name in PICKS}
    files = [file for file in named.values() if file.is_file()]
    if not files:
        raise InputError(f"{path} has no S.json, M.json or L.json", "the folder of a finished nas search")
    return [read_artifact(file) for file in files]


def _job(args: argparse.Namespace, shown: Reporter) -> TrainJob:
    """Return the job that the options describe, without its architecture. Raises InputError for options that do not
    go together."""
    from nas.cli.options import logging_config, recipe
    from nas.cli.transfer_options import beside, distillation, initial, layer_config
    from nas.training.job import ComputeConfig, TrainJob

    settings, logging = replace(recipe(args), **distillation(args)), logging_config(args)
    return TrainJob(
        _data(args, shown),
        settings,
        init=initial(args),
        teacher=beside(args.teacher, args.architecture),
        layers=layer_config(args),
        augment=not args.no_augment,
        compute=ComputeConfig(args.device, args.processes).check(settings),
        logging=logging,
    )


def _data(args: argparse.Namespace, shown: Reporter) -> DataPair:
    from nas.cli.transfer_options import with_pseudo_labels
    from nas.training.data import open_training_data

    return with_pseudo_labels(args, open_training_data(args.data, args.limit, shown), shown)
