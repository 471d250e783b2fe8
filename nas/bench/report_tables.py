"""A bench as a table, for terminals and Markdown, and as CSV with every number."""

from __future__ import annotations

from collections.abc import Sequence

from nas.bench.results import ACCURACY_KINDS, PUBLISHED, TRAINED, Accuracy, BenchEntry, BenchResult
from nas.core.csv_text import csv_text
from nas.core.text_table import TextTable
from nas.core.units import quantity

_OF = {PUBLISHED: "published", TRAINED: "own", "supernet": "supernet's"}


def bench_table(bench: BenchResult) -> TextTable:
    """Return a row per model, fastest first, failed ones last.

    With two targets there are also the latency on the second and the speed-up, and for trained weights the change of
    mAP by int8 in points (hundredths): below zero is a loss.
    """
    main, second = bench.settings.targets[0], bench.settings.targets[1:]
    other = bench.of(second[0]) if second else {}
    ratios = bench.speed_ups()
    headers = ["model", "family", main]
    headers += [*second, "speed-up"] if second else []
    headers += ["int8 mAP"] if bench.drops else []
    headers += ["mAP 50–95", "whose", "M params", "GMACs", "px", "classes", "machine"]
    rows = []
    for entry in _by_latency(list(bench.main.values())):
        m = entry.model
        cells = [m.name, m.family, _latency(entry)]
        if second:
            cells += [_latency(other[m.name]), quantity(ratios[m.name]) if m.name in ratios else "–"]
        if bench.drops:
            cells += [f"{-bench.drops[m.name].points:+.2f}" if m.name in bench.drops else "–"]
        cells += [m.accuracy.text if m.accuracy else "–", _whose(m.accuracy)]
        cells += [
            f"{m.params / 1e6:.2f}",
            f"{m.macs / 1e9:.2f}",
            str(m.network.image_size),
            str(m.network.classes),
            entry.verdict,
        ]
        rows.append(tuple(cells))
    return TextTable(tuple(headers), tuple(rows), left=2)


def bench_notes(bench: BenchResult) -> list[str]:
    """Return what does not fit into the table: families at the second target, models without mAP, failures."""
    found = []
    if len(bench.settings.targets) > 1 and (families := bench.family_speed_ups()):
        ratios = ", ".join(f"{family} {ratio:.2f}x" for family, ratio in families.items())
        found.append(
            f"{bench.settings.targets[1]} against {bench.settings.targets[0]}, geometric mean of each family: {ratios}"
        )
    if bench.drops:
        changes = ", ".join(f"{family} {-points:+.2f}" for family, points in bench.family_drops().items())
        one = next(iter(bench.drops.values()))
        found.append(
            f"change of mAP by int8 in points, mean of each family: {changes}; "
            f"on {one.images} images, in {one.evaluated_in}"
        )
    if unknown := [e.model.name for e in bench.main.values() if e.model.accuracy is None]:
        reason = "published figures are of 640 px and 80 classes, own ones of the size and classes of their evaluation"
        found.append(f"no mAP is known of {', '.join(unknown)} as timed here: {reason}")
    own = {e.model.name: e.model.accuracy for e in bench.main.values() if e.model.accuracy}
    if bare := [name for name, a in own.items() if a.kind != PUBLISHED and a.interval is None]:
        found.append(f"no interval of mAP is known of {', '.join(bare)}: nas evaluate gives one")
    found += [f"failed: {e.model.name} on {e.target}: {e.failure}" for e in bench.failures]
    return found


def _rounds(count: int) -> str:
    return "one round in a random order" if count == 1 else f"{count} rounds in random orders"


def bench_markdown(bench: BenchResult) -> str:
    """Return a Markdown page: machine and settings, the table, the notes, the sources of the accuracies."""
    device, settings = bench.machine.get("device", {}), bench.settings
    name = device.get("accelerator") or device.get("cpu") or "unknown device"
    runtime = f"{settings.targets[0].partition(':')[0]} {bench.machine.get('runtime', '')}".strip()
    times = sorted(m.time for e in bench.entries for m in e.measured if m.time)
    when = f"{times[0]} to {times[-1]}" if times else "at an unknown time"
    head = [
        f"# {len(bench.main)} models on {settings.targets[0]}",
        "",
        f"{name}; {runtime}; {_rounds(settings.rounds)} (seed {settings.seed}), {when}. "
        "Latencies are medians with 95 % intervals that cover "
        "the differences between rounds, at the machine's nominal speed (by the reference model timed beside each); "
        "non-maximum suppression is in none.",
        "",
    ]
    sources = _sources([e.model.accuracy for e in bench.main.values()])
    tail = ["", *(f"- {line}" for line in bench_notes(bench)), *(f"- {line}" for line in sources)]
    return "\n".join(head) + "\n" + bench_table(bench).markdown() + "\n".join(tail).rstrip() + "\n"


def bench_csv(bench: BenchResult) -> str:
    """Return CSV with one line per model and target.

    Numbers are written so that reading them gives the same bits; unknown ones are left empty.
    """
    rows = [_row(entry, bench) for entry in bench.entries]
    return csv_text(list(rows[0]), rows)


def _row(entry: BenchEntry, bench: BenchResult) -> dict[str, object]:
    model, latency, accuracy = entry.model, entry.latency, entry.model.accuracy
    second = entry.target != bench.settings.targets[0]
    ratio = bench.speed_ups().get(model.name) if second else None
    drop = bench.drops.get(model.name) if second else None
    interval = accuracy and accuracy.interval
    return {
        "model": model.name,
        "family": model.family,
        "target": entry.target,
        "latency_ms": latency and repr(latency.value),
        "low_ms": latency and repr(latency.low),
        "high_ms": latency and repr(latency.high),
        "rounds": len(entry.measured),
        "machine": entry.verdict,
        "speed_up": ratio and repr(ratio.value),
        "float_map_percent": drop and repr(drop.before),
        "int8_map_percent": drop and repr(drop.after),
        "map50_95_percent": accuracy and repr(accuracy.percent),
        "map_low_percent": interval and repr(interval[0]),
        "map_high_percent": interval and repr(interval[1]),
        "map_kind": accuracy and accuracy.kind,
        "map_data": accuracy and accuracy.data,
        "map_source": accuracy and accuracy.source,
        "params": model.params,
        "macs": model.macs,
        "image_size": model.network.image_size.value,
        "classes": model.network.classes,
        "architecture": model.network.architecture.id,
        "failure": entry.failure,
    }


def _by_latency(entries: Sequence[BenchEntry]) -> list[BenchEntry]:
    return sorted(entries, key=lambda e: (e.latency is None, e.latency.value if e.latency else 0.0))


def _latency(entry: BenchEntry) -> str:
    return quantity(entry.latency) if entry.latency else "failed"


def _whose(accuracy: Accuracy | None) -> str:
    return "–" if accuracy is None else f"{_OF[accuracy.kind]}, {accuracy.data}"


def _sources(accuracies: Sequence[Accuracy | None]) -> list[str]:
    """List the sources of the accuracies, each once."""
    sources = {f"mAP on {a.data} {ACCURACY_KINDS[a.kind]}: {a.source}": None for a in accuracies if a}
    return list(sources)
