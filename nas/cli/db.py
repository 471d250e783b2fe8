"""``nas db``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latency_db.database.db import LatencyDB
    from latency_db.database.filters import MeasurementFilter, MeasurementGroup
    from latency_db.database.table_io import Row

EXAMPLES = """\
  nas db list                                                   counts and times by space, target and device
  nas db list --target onnxruntime:fp32 --space yolo-nano --each
  nas db show ab12cd34ef56                                      every field of an architecture's measurements
  nas db export epyc.csv --space yolo-nano --target openvino:fp32
  nas db import epyc.csv --latency-db postgresql://nas@server/latency
  nas db merge colleague.sqlite                                 of two measurements of one key the newer stays
  nas db import yolobench.parquet --key model_name --value latency_ms_a40_tensorrt --target tensorrt:fp16 --device-name "NVIDIA A40\""""
ACTIONS = {
    "list": "list the measurements",
    "show": "every field of some measurements, as JSON",
    "export": "write measurements to a .csv or .parquet file, with their provenance",
    "import": "import such a file, or the latency column of a published table",
    "merge": "import the measurements of another database",
}


ALIASES = {"list": ["ls"]}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = {
        name: actions.add_parser(name, help=text, description=text, aliases=ALIASES.get(name, []))
        for name, text in ACTIONS.items()
    }
    for one in made.values():
        one.add_argument("--latency-db", help="file or URL of the database (default: the one of all runs)")
    made["show"].add_argument(
        "workload", metavar="KEY", help="a workload's key or a part of it, such as an architecture's id"
    )
    for name in ("list", "show", "export"):
        _add_choice(made[name], name == "show")
    made["list"].add_argument("--each", action="store_true", help="every measurement, not groups")
    made["export"].add_argument("file", type=Path, help="the .csv or .parquet file to write")
    made["export"].add_argument("--by", help="who exports, for the provenance (default: the name of the user)")
    made["import"].add_argument(
        "file", type=Path, help="a .csv or .parquet file that nas db export wrote; with --key and --value any"
    )
    _add_table_columns(made["import"].add_argument_group("of a published table"))
    made["merge"].add_argument("other", help="file or URL of the other database")


def _add_choice(parser: argparse.ArgumentParser, keyed: bool) -> None:
    parser.add_argument("--target", help="of this target or runtime: onnxruntime, onnxruntime:fp32")
    parser.add_argument("--space", help="of this search space")
    parser.add_argument("--device", help="of this device: its id, or a part of its name")
    parser.add_argument("--version", help="of this version of the runtime")
    if not keyed:
        parser.add_argument("--workload", help="whose key has this part, for example an architecture's id or /c10/")


def _add_table_columns(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--key", metavar="COLUMN", help="the column that names the network")
    group.add_argument("--value", metavar="COLUMN", help="the column with the milliseconds")
    group.add_argument("--target", help="what it was measured on: tensorrt:fp16")
    group.add_argument("--device-name", help="the device it was measured on")
    group.add_argument("--version", default="unknown", help="of the runtime (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """List, show or move measurements."""
    from latency_db.database.db import LatencyDB
    from nas.profiling.default_database import default_latency_db

    name = args.latency_db or default_latency_db()
    action = next((action for action, names in ALIASES.items() if args.action in names), args.action)
    if action in ("import", "merge"):
        rows, skipped = _import(args) if action == "import" else _merge(args)
        with LatencyDB(name) as database:  # only now: what cannot be read must not leave an empty database behind
            _take(rows, skipped, database)
        return 0
    _must_be_there(name)
    with LatencyDB(name, read_only=True) as database:
        {"list": _list, "show": _show, "export": _export}[action](args, database)
    return 0


def _must_be_there(name: str | Path) -> None:
    """Reading must not make a database where a name was misspelt."""
    from search_spaces.errors import InputError

    if "://" not in str(name) and not Path(name).expanduser().exists():
        raise InputError(
            f"no database at {name}",
            "a file or URL",
            "nas measure and nas search make it; name another with --latency-db",
        )


def _chosen(args: argparse.Namespace) -> MeasurementFilter:
    from latency_db.database.filters import MeasurementFilter

    return MeasurementFilter(args.target, args.space, args.version, args.device, args.workload)


def _list(args: argparse.Namespace, database: LatencyDB) -> None:
    groups = database.groups(_chosen(args))
    if args.each:
        _print_each(list(database.rows(_chosen(args))))
    else:
        _print_groups(groups)
    count, every = (sum(len(g.times_ms) for g in found) for found in (groups, database.groups()))
    print(f"{count} {f'of {every} ' if count != every else ''}measurements in {database.name}")


def _print_each(rows: Sequence[Row]) -> None:
    head = ("workload", "target", "version", "device", "ms", "±", "source", "verdict", "time")
    cells = [
        (*asdict(k).values(), f"{m.median_ms:.3f}", f"{m.half_width:.1%}", m.source, m.verdict, m.time) for k, m in rows
    ]
    _print_table(head, cells)


def _print_groups(groups: Sequence[MeasurementGroup]) -> None:
    head = ("space", "target", "version", "device", "count", "min ms", "median", "max", "clean", "newest")
    cells = []
    for g in groups:
        times = [f"{ms:.3f}" for ms in (g.times_ms[0], median(g.times_ms), g.times_ms[-1])]
        device = f"{g.device} {g.device_name}".strip()
        cells.append(
            (g.space or "(files)", g.target, g.version, device, str(len(g.times_ms)), *times, str(g.clean), g.newest)
        )
    _print_table(head, cells)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from search_spaces.text import printable

    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows) if rows else ():
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _show(args: argparse.Namespace, database: LatencyDB) -> None:
    import json

    from latency_db.database.db import MissingLatency

    found = [{"key": asdict(key), "measurement": m.to_dict()} for key, m in database.rows(_chosen(args))]
    if not found:
        raise MissingLatency(
            f"no measurement of {args.workload!r} in {database.name}",
            "a workload's key or a part of it",
            "nas db list --each lists them",
        )
    print(json.dumps(found, indent=2))


def _export(args: argparse.Namespace, database: LatencyDB) -> None:
    from latency_db.database.table_io import kind_of, write_table
    from search_spaces.errors import InputError

    kind_of(args.file)
    rows = list(database.rows(_chosen(args)))
    if not rows:
        raise InputError(
            f"no measurement in {database.name} is of that choice", "at least one", "nas db list lists what there is"
        )
    print(f"{write_table(args.file, rows, args.by or _user())} measurements written to {args.file}")


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user need not have a name
        return "unknown"


def _import(args: argparse.Namespace) -> tuple[Sequence[Row], int]:
    from latency_db.core.target import Target
    from latency_db.database.import_table import TableColumns, import_table
    from latency_db.database.table_io import read_table
    from search_spaces.errors import InputError
    from search_spaces.text import printable

    named = {"--key": args.key, "--value": args.value, "--target": args.target, "--device-name": args.device_name}
    if not any(named.values()):
        table = read_table(args.file)
        by, time, tool = (printable(table.provenance.get(name)) for name in ("by", "time", "tool"))
        print(f"{printable(args.file)}: exported by {by}, {time}, {tool}")
        return table.rows, 0
    if missing := [option for option, value in named.items() if not value]:
        raise InputError(f"a published table without {' and '.join(missing)}", " ".join(named))
    columns = TableColumns(args.key, args.value, Target.read(args.target), args.device_name, args.version)
    return import_table(args.file, columns)


def _merge(args: argparse.Namespace) -> tuple[Sequence[Row], int]:
    from latency_db.core.measurement import check_past
    from latency_db.database.db import LatencyDB
    from latency_db.database.table_io import KINDS
    from search_spaces.errors import InputError

    _must_be_there(args.other)
    if Path(args.other).suffix in KINDS:
        raise InputError(f"{args.other} is a table", "a database", f"take it over with: nas db import {args.other}")
    with LatencyDB(args.other, read_only=True) as other:
        rows = list(other.rows())
    for _, measurement in rows:
        check_past(measurement.time)
    return rows, 0


def _take(rows: Sequence[Row], skipped: int, database: LatencyDB) -> None:
    merged = database.merge(rows)
    print(
        f"{len(rows)} measurements: {merged.added} new, {merged.replaced} newer than what was in {database.name}, "
        f"{merged.kept} left out because what is there is as new or newer"
    )
    if skipped:
        print(f"{skipped} rows without a value were left out")
