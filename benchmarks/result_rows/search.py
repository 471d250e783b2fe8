"""Rows of searches, their speed and their safety."""

from __future__ import annotations

from statistics import mean, median

from benchmarks.result_rows.form import Figure, Row, Theme, nothing, percent


def quickstart(f: Figure) -> list[Row]:
    """Parameters, MACs, latency and accuracy of S, M and L."""
    return [
        (
            f"{name}: parameters, MACs, latency, mAP50-95",
            f"{f[name]['params'] / 1e6:.2f} M, {f[name]['macs'] / 1e6:.0f} M, {f[name]['latency_ms']:.2f} ms, "
            f"{f[name]['trained_map']:.3f}",
        )
        for name in "SML"
    ]


METHODS = {
    "guided, latency told": "guided, latency as a cheap objective",
    "guided, latency known": "guided, latency free",
}


def search_quality(f: Figure) -> list[Row]:
    """Share of the true front's hypervolume: our sampler, and the best of the others at the last count."""
    rows = []
    for problem, methods in f.items():
        wanted = ("100", "200") if problem.startswith("NAS") else ("50", "100")
        counts = [n for n in wanted if all(n in m["shares"] for m in methods.values())]
        others = {name: m for name, m in methods.items() if not name.startswith("guided")}
        shown = {name: m for name, m in methods.items() if name.startswith("guided")}
        if others:
            best = max(others, key=lambda name, others=others: others[name]["shares"][counts[-1]]["mean"])  # type: ignore[misc]
            shown[best] = others[best]
        for name, method in shown.items():
            label = METHODS.get(name, name) + ("" if name.startswith("guided") else " (best of the others)")
            what = f"{problem} after {' and '.join(counts)} trials, {method['seeds']} seeds: {label}"
            rows.append((what, ", ".join(f"{method['shares'][n]['mean']:.3f}" for n in counts)))
    return rows


def end_to_end(f: Figure) -> list[Row]:
    """The same count against the mean of NSGA-II's hypervolumes."""
    return [("the same to NSGA-II's mean over seeds", f"{f['median_mean']:g} evaluations")]


def search_stop(f: Figure) -> list[Row]:
    """When searches ended, and what they had found by then."""
    runs = [run for of_problem in f.values() for run in of_problem]
    ended = [run for run in runs if run["end"] is not None]
    ends, there, after = ([run[name] for run in ended] for name in ("end", "share_at_end", "share_after_all"))
    return [
        (f"searches that ended by themselves, {len(f)} tables of YOLOBench", f"{len(ended)} of {len(runs)}"),
        ("candidates at that point: least, median, most", f"{min(ends)}, {median(ends):.0f}, {max(ends)}"),
        ("share of the true front's hypervolume at that point", f"{min(there):.4f} … {max(there):.4f}"),
        ("the same after all candidates", f"{min(after):.4f} … {max(after):.4f}"),
    ]


def search_early(f: Figure) -> list[Row]:
    """What pruning saves and costs, per sampler."""
    rows: list[Row] = []
    for sampler, row in f.items():
        pruned = ", ".join(map(str, row["stopped"]))
        rows += [
            (f"{sampler}: candidates pruned of {row['trials']}, per seed", pruned),
            (f"{sampler}: accuracy time saved", percent(mean(row["saved_share"]), 0)),
            (f"{sampler}: hypervolume with pruning over that without", percent(mean(row["hypervolume_ratio"]))),
        ]
        for name in row["rho"][0]:
            value = mean(run[name] for run in row["rho"] if name in run)
            rows.append((f"{sampler}: rank correlation of {name} with the full estimate", f"{value:.2f}"))
    return rows


def limits(f: Figure) -> list[Row]:
    """Observation noise of NAS-Bench-201 and its share in the true front."""
    rows = [
        (
            f"{device}: latency noise; front points explained by noise; hypervolume without them",
            f"{percent(d['latency_noise'])}; {d['lucky']} of {d['front']}; {d['without_lucky']:.4f}",
        )
        for device, d in f.items()
    ]
    return [*rows, ("accuracy noise", f"{next(iter(f.values()))['accuracy_noise']:.2f} points")]


def sampler_overhead(f: Figure) -> list[Row]:
    """CPU time of a proposal: the guided sampler in its slowest space, and other samplers."""
    rows: list[Row] = []
    for objectives, spaces in f["guided"].items():
        for count in sorted({count for row in spaces.values() for count in row}, key=int):
            found = [row[count] for row in spaces.values() if count in row]
            what = f"guided, {objectives}, {count} trials, slowest of {len(found)} spaces: CPU time of a proposal"
            running, reopened, refit = (max(row[key] for row in found) for key in ("running", "first three", "refit"))
            rows.append((what, f"{1e3 * running:.0f} ms"))
            rows.append((f"{what}, mean of the first three after reopening", f"{1e3 * reopened:.0f} ms"))
            rows.append((f"{what}, with a fit of hyperparameters", f"{1e3 * refit:.0f} ms"))
    at = f"{f['at']} trials of {f['compared space']}"
    rows += [(f"{n}, {at}: CPU time of a proposal", f"{1e3 * s['running']:.1f} ms") for n, s in f["compared"].items()]
    return rows


def workers(f: Figure) -> list[Row]:
    """Efficiency of other worker counts, quality of the front with pending trials."""
    rows = [
        (f"parallel efficiency of {n} workers, evaluations of {f['seconds_of_an_evaluation']:g} s", percent(e, 0))
        for n, e in f["efficiency"].items()
        if n not in ("1", *f["goals"])
    ]
    for n, row in f.get("share_of_hypervolume", {}).items():
        what = f"share of the hypervolume on YOLOBench after 50 and 100 trials, {n} evaluated at a time"
        rows.append((what, f"{row['50']:.3f}, {row['100']:.3f}"))
    return rows


def roles(f: Figure) -> list[Row]:
    """The same search where tasks run one after the other."""
    return [("the same, one task after the other", f"{f['ratio_one_after_the_other']:.3g}×")]


def kills(f: Figure) -> list[Row]:
    """Evaluations whose end was lost with its process, and the size of the front that is compared."""
    names = {
        "workers": "killed workers",
        "driver": "a killed driver with workers",
        "inline": "a killed driver without workers",
    }
    again = "evaluated_again_after_their_end"
    rows = [(f"evaluations repeated, {names[k]}", f"{f[k][again]} of {f[k]['wanted']}") for k in names if k in f]
    return rows + ([("front that is compared, candidates", f"{f['inline']['front']}")] if "inline" in f else [])


def ray_cluster(f: Figure) -> list[Row]:
    """What was evaluated again, and the time that it took."""
    return [
        ("evaluations that their killed worker had begun, evaluated again", f"{f['lost']} of {f['wanted']}"),
        ("of these, killed between the end and the answer", f"{f['evaluated_again_after_their_end']}"),
        (
            f"the search on {f['nodes']} nodes, evaluations of {f['seconds_of_an_evaluation']:g} s",
            f"{f['wall_s']:.0f} s",
        ),
    ]


def contest(f: Figure) -> list[Row]:
    """Speed at a reference's accuracy."""
    ratios = sorted(r["faster_at_its_map"] for r in f["references"].values() if r["faster_at_its_map"])
    if not ratios:
        return []
    what = f"speed-up at a reference's mAP, {f['data']} at {f['image_size']} px: least, median, largest"
    return [(what, f"{ratios[0]:.2f}×, {ratios[len(ratios) // 2]:.2f}×, {ratios[-1]:.2f}×")]


QUICKSTART: Theme = {
    "quickstart": ("`make quickstart`", quickstart),
}


SEARCH: Theme = {
    "search_quality": ("share of the true front's hypervolume, tables of trained networks", search_quality),
    "search_end_to_end": ("the quickstart's search, evaluations recorded", end_to_end),
    "search_stop": ("automatic stopping, `--stop auto`", search_stop),
    "search_early": ("pruning, the quickstart's search", search_early),
    "search_limits": ("observation noise of NAS-Bench-201", limits),
    "sampler_overhead": ("samplers' own time", sampler_overhead),
    "study_overhead_random": ("study and database", nothing),
    "budgets_honoured": ("S, M and L measured again later", nothing),
    "workers": ("many workers on one study", workers),
    "roles": ("latency and accuracy on different hardware", roles),
    "kills": ("killed workers and drivers", kills),
    "ray_cluster": ("a Ray cluster whose nodes and workers are killed", ray_cluster),
    "against_references": ("searched networks and width-scaled references, one recipe and budget", contest),
}
