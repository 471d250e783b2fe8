"""The commands that repeat a run, from its settings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields

from nas.search.chosen_files import chosen_files
from nas.search.explain.run_data import RunData
from nas.search.settings import SearchSettings

PLAIN = {
    "space": "--space",
    "data": "--data",
    "num_classes": "--num-classes",
    "limit": "--limit",
    "target": "--target",
    "latency": "--latency",
    "accuracy": "--accuracy",
    "trials": "--trials",
    "sampler": "--sampler",
    "seed": "--seed",
    "budgets": "--budgets",
    "at_least": "--at-least",
    "supernet": "--supernet",
    "init": "--init",
    "eval_images": "--eval-images",
    "stop": "--stop",
    "latency_db": "--latency-db",
    "storage": "--storage",
    "on": "--on",
    "device": "--device",
    "processes": "--processes",
}
"""Field of the settings -> option that takes its value as it is."""
ALWAYS = ("space", "data", "target", "trials", "seed")
"""Options that are given although they have their default, because the result depends on them most."""


def commands_of(run: RunData) -> tuple[str, ...]:
    """Return the commands that repeat a run: search, certify, train and export."""
    settings, folder = run.plan.settings, shlex.quote(str(run.folder))
    found = [f"nas search {shlex.join(search_options(settings))} --out {folder}", f"nas certify {folder}"]
    files = chosen_files(run.folder)
    for pick in run.selection or ():
        file = files.get(pick.name, run.folder / f"{pick.name}.json").with_suffix("")
        weights = shlex.quote(str(file))
        if settings.data and file.with_suffix(".safetensors").exists():
            found.append(f"nas train {weights}.json --data {shlex.quote(settings.data)} --init supernet")
        if file.with_suffix(".onnx").exists():
            found.append(f"nas export {weights}.safetensors")
    return tuple(found)


def search_options(settings: SearchSettings) -> list[str]:
    """Return the options of ``nas search`` that give settings; those with their default are left out, but for
    :data:`ALWAYS`."""
    defaults = {f.name: f.default for f in fields(SearchSettings)}
    found: list[str] = []
    for name, option in PLAIN.items():
        value = getattr(settings, name)
        if value is not None and (name in ALWAYS or value != defaults[name]):
            found += [option, str(value)]
    for name, values in settings.fixed.items():
        found += ["--fix", f"{name}={','.join(map(str, values))}"]
    for option, many in (("--minimize", settings.minimize), ("--maximize", settings.maximize)):
        found += _each(option, many)
    found += _each("--bound", settings.bounds)
    found += ["--precision", ",".join(settings.precisions)] if settings.precisions else []
    found += ["--seed-with", ",".join(settings.seeded)] if settings.seeded else []
    found += _each("--set", [f"{name}={value}" for name, value in settings.recipe.items()])
    found += [] if settings.augment else ["--no-augment"]
    return found + ([] if settings.early_stop else ["--no-early-stop"])


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (option, value)]
