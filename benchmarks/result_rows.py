"""Rows of the results table beyond the goals: for each result a title and the figures that have no goal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import Any

Figure = Mapping[str, Any]
Row = tuple[str, str]
"""What the figure is, and its value with the unit."""


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _interval(low: float, high: float) -> str:
    return f"({low:.2f}…{high:.2f})"


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


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


def fidelity(f: Figure) -> list[Row]:
    """Intervals, and the correlations of cheaper scores."""
    count = len(f["architectures"])
    return [
        (
            f"Kendall's tau over {count} architectures, by {label}",
            f"{f[key]['tau']:.2f} {_interval(*f[key]['interval'])}",
        )
        for key, label in (("supernet", "the supernet's mAP"), ("macs", "MACs"), ("nwot", "NWOT"))
    ]


def zero_cost(f: Figure) -> list[Row]:
    """Time of a search without training, share of the hypervolume its front holds."""
    cost = f["cost"]
    rows = [
        (
            f"{cost['candidates']} candidates of {cost['space']} at {cost['image_size']} px, NWOT",
            f"{cost['seconds']:.0f} s",
        )
    ]
    for name, row in f.get("yolobench", {}).items():
        what = f"share of the true front's hypervolume held by the NWOT × latency front, YOLOBench {name}"
        rows.append((what, f"{_percent(row['share'])} (random choice {_percent(row['share_by_chance'])})"))
    return rows


def aot_build(f: Figure) -> list[Row]:
    """Build time and memory of each plan."""
    return [
        (
            f"{name} {precision}: build time, weights, activations",
            f"{row['build_s']:.1f} s, {row['weights_mib']:.0f} MiB, {row['activations_mib']:.0f} MiB",
        )
        for name, rows in f["networks"].items()
        for precision, row in rows.items()
        if "failed" not in row
    ]


def predictor(f: Figure) -> list[Row]:
    """Error from 100 networks; share within 10 % in the other cases."""
    rows = []
    for device, cases in f["yolobench"].items():
        rows.append(
            (f"{device}: mean error from 100 measured, random", _percent(cases["100 measured, random"]["mape"]))
        )
        for case, row in cases.items():
            if case != "100 measured, random":
                rows.append((f"{device}: unseen networks within ±10 % from {case}", _percent(row["within_10"])))
    return rows


def predictor_measured(f: Figure) -> list[Row]:
    """Mean error, and how well another process's measurement of the same network agrees."""
    rows = []
    for target, cases in f.items():
        rows += [
            (f"{target}: mean error from {name}", _percent(row["mape"]))
            for name, row in cases.items()
            if "random" in name
        ]
        again = cases.get("same_network_in_another_process", {})
        if again.get("pairs"):
            what = f"{target}: measurements within ±10 % of those of other processes, same network"
            rows.append((what, _percent(again["within_10"])))
    return rows


def bench(f: Figure) -> list[Row]:
    """Range of latencies, width of intervals, speed-up of int8."""
    first, *second = f["targets"]
    timed = [row[first] for row in f["models"].values() if "ms" in row[first]]
    width = sorted((r["high"] - r["low"]) / 2 / r["ms"] for r in timed)[len(timed) // 2]
    span = f"{_milliseconds(min(r['ms'] for r in timed))} … {_milliseconds(max(r['ms'] for r in timed))}"
    rows = [
        (f"{len(timed)} references at {first}: latencies", span),
        ("median half-width of the 95 % intervals", f"± {_percent(width)}"),
    ]
    if second:
        rows += [(f"{name}: int8 speed-up", f"{ratio:.2f}×") for name, ratio in f["int8_speed_up_by_family"].items()]
    return rows


def gpu_bench(f: Figure) -> list[Row]:
    """Latency of each reference, fastest first; one round of an interrupted bench."""
    (target,) = f["targets"]
    timed = sorted((row[target]["ms"], name) for name, row in f["models"].items() if "ms" in row[target])
    return [(f"{name}, {target}, batch 1, {f['rounds']} round", f"{ms:.3g} ms") for ms, name in timed]


def workers(f: Figure) -> list[Row]:
    """Efficiency of other worker counts, quality of the front with pending trials."""
    rows = [
        (f"parallel efficiency of {n} workers, evaluations of {f['seconds_of_an_evaluation']:g} s", _percent(e, 0))
        for n, e in f["efficiency"].items()
        if n not in ("1", *f["goals"])
    ]
    for n, row in f.get("share_of_hypervolume", {}).items():
        what = f"share of the hypervolume on YOLOBench after 50 and 100 trials, {n} evaluated at a time"
        rows.append((what, f"{row['50']:.3f}, {row['100']:.3f}"))
    return rows


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


def roles(f: Figure) -> list[Row]:
    """The same search where tasks run one after the other."""
    return [("the same, one task after the other", f"{f['ratio_one_after_the_other']:.3g}×")]


def ssh_device(f: Figure) -> list[Row]:
    """Medians of every model here and over SSH."""
    return [
        (
            f"model {i}, median of {f['rounds']} rounds here and over SSH",
            f"{m['here_ms']:.3g} ms, {m['there_ms']:.3g} ms",
        )
        for i, m in enumerate(f["models"], 1)
    ]


def end_to_end(f: Figure) -> list[Row]:
    """The same count against the mean of NSGA-II's hypervolumes."""
    return [("the same to NSGA-II's mean over seeds", f"{f['median_mean']:g} evaluations")]


def training(f: Figure) -> list[Row]:
    """mAP of each model, best first."""
    recipe, size = f["recipe"], f["image_size"]
    rows = []
    for name, row in sorted(f["models"].items(), key=lambda item: -item[1]["map"]):
        what = f"{name}: mAP50-95 after {recipe['epochs']} epochs of {f['pictures']['train']} images at {size} px"
        rows.append((what, f"{row['map']:.1f} %"))
        if tested := row.get("test_map50_per_seed"):
            rows.append((f"{name}: mAP50 on the test split, per seed", ", ".join(f"{m:.1f} %" for m in tested)))
    return rows


def contest(f: Figure) -> list[Row]:
    """Speed at a reference's accuracy."""
    ratios = sorted(r["faster_at_its_map"] for r in f["references"].values() if r["faster_at_its_map"])
    if not ratios:
        return []
    what = f"speed-up at a reference's mAP, {f['data']} at {f['image_size']} px: least, median, largest"
    return [(what, f"{ratios[0]:.2f}×, {ratios[len(ratios) // 2]:.2f}×, {ratios[-1]:.2f}×")]


def proxies(f: Figure) -> list[Row]:
    """Kendall's tau of training-free scores with COCO mAP."""
    shown = ("params", "macs", "activations", "nwot_table", "activations + nwot")
    table = f["table"]["map50_95_coco x latency_ms_a40_tensorrt"]["tau"]
    rows = [
        (
            f"Kendall's tau with COCO mAP, {grouping}: {name.replace('_table', ' of the table')}",
            f"{scores[name]['tau']:.2f}",
        )
        for grouping, scores in table.items()
        for name in shown
        if name in scores
    ]
    ours = f["nwot_against_the_table"]
    rows.append(
        (f"Kendall's tau of our NWOT with the table's, {ours['architectures']} architectures", f"{ours['tau']:.3f}")
    )
    return rows


METHODS = {
    "guided, latency told": "guided, latency as a cheap objective",
    "guided, latency known": "guided, latency free",
}
"""Names of methods in ``search_quality.json`` -> names in the table."""


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


def training_step(f: Figure) -> list[Row]:
    """Interval of the ratio, images per second."""
    rows = [("95 % interval of the ratio", _interval(*f["ratio_interval"]))]
    rows.append(("images trained per second", f"{f['taken_per_s']:.0f}"))
    return rows + [(f"images loaded per second, {name}", f"{rate:.0f}") for name, rate in f["made_per_s"].items()]


def ratio(f: Figure) -> list[Row]:
    """Interval of the ratio."""
    return [("95 % interval of the ratio", _interval(*f["ratio_interval"]))]


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
            (f"{sampler}: accuracy time saved", _percent(mean(row["saved_share"]), 0)),
            (f"{sampler}: hypervolume with pruning over that without", _percent(mean(row["hypervolume_ratio"]))),
        ]
        for name in row["rho"][0]:
            value = mean(run[name] for run in row["rho"] if name in run)
            rows.append((f"{sampler}: rank correlation of {name} with the full estimate", f"{value:.2f}"))
    return rows


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


def quantization(f: Figure) -> list[Row]:
    """Size, worst model and controls of each runtime and mode."""
    rows: list[Row] = []
    for target, modes in f["targets"].items():
        for mode, row in modes.items():
            rows.append((f"{target}, {mode}: size of fp32 over int8", f"{row['size_ratio']:.1f}×"))
            rows.append((f"{target}, {mode}: change of mAP, worst model", f"{-row['worst_drop']:+.2f} points"))
            rows += [
                (f"{target}, {mode}, control ({name.removeprefix('control: ')}): change of mAP", f"{-lost:+.2f} points")
                for name, lost in row["beside"].items()
            ]
    return rows


def families(f: Figure) -> list[Row]:
    """Change of mAP and speed-up of each model, calibrated."""
    ((target, modes),) = f["targets"].items()
    return [
        (
            f"{name.partition(',')[0]}, {target}: change of mAP, speed-up",
            f"{-m['drop']:+.2f} points of {100 * m['map_float']:.1f} %, {m['speed_up'][0]:.2f}×",
        )
        for name, m in modes["ptq"]["models"].items()
    ]


def transfer(f: Figure) -> list[Row]:
    """Gains over training from scratch, with 95 % intervals over seeds."""
    gains = f["over_scratch"]
    names = {"pretrained": "pre-trained on digits", "taught": f"distilled from {f['teacher']}", "teacher": f["teacher"]}
    scratch = f"{100 * f['map']['scratch']['mean']:.1f} %"
    rows = [(f"{f['model']} from scratch: mAP50-95, {len(f['runs'])} seeds", scratch)]
    for way, label in names.items():
        gain = f"{100 * gains[way]['mean']:+.1f} ± {100 * gains[way]['half_width']:.1f} points"
        rows.append((f"gain over {f['model']} from scratch: {label}", gain))
    return rows


def pretrained(f: Figure) -> list[Row]:
    """mAP of both starts of each model, and the gain with its 95 % interval over seeds."""
    rows = []
    for name, one in f["models"].items():
        gain, maps = one["gain"], one["map"]
        half = "" if gain["half_width"] is None else f" ± {100 * gain['half_width']:.1f}"
        of = f"{name}, {f['image_size']} px, {f['epochs']} epochs, {len(one['runs'])} seeds"
        both = " and ".join(f"{100 * maps[start]['mean']:.1f} %" for start in ("scratch", "pretrained"))
        rows.append(
            (
                f"{of}: mAP50-95 from random and from published weights, gain",
                f"{both}, {100 * gain['mean']:+.1f}{half} points",
            )
        )
    return rows


def rectangles(f: Figure) -> list[Row]:
    """Range of mAP and latency of both fronts."""
    return [
        (
            f"front of {kind}, {f['data_name']}: latency and mAP50-95 of its ends",
            f"{f[kind][0]['ms']:.2f} ms, {100 * f[kind][0]['map']:.1f} % to {f[kind][-1]['ms']:.2f} ms, "
            f"{100 * f[kind][-1]['map']:.1f} %",
        )
        for kind in ("squares", "rectangles")
    ]


def runtime_searches(f: Figure) -> list[Row]:
    """Candidates, front, and latency and mAP of S, M and L of each search."""
    rows = []
    for one in f["searches"]:
        chosen = ", ".join(
            f"{name} {c['latency_ms']:.2f} ms {100 * c['map']:.1f} %" for name, c in sorted(one["chosen"].items())
        )
        text = f"{one['candidates']}, {one['front']}: {chosen}"
        rows.append(
            (f"{one['target']}: candidates, points of the front: latency and mAP50-95 (supernet) of S, M, L", text)
        )
    return rows


def small_set(f: Figure) -> list[Row]:
    """mAP on the test split of L and of the reference, and the reliability that the search printed."""
    rows = []
    for run in f["runs"]:
        text = ", ".join(f"{name} {100 * one['map']:.1f} %" for name, one in run["map"].items())
        rows.append((f"seed {run['seed']}, {run['supernet_epochs']} + {f['epochs']} epochs: mAP50-95 on test", text))
        rows.append((f"seed {run['seed']}: reliability printed before the search", run["check"].partition("; ")[2]))
    return rows


def training_kills(f: Figure) -> list[Row]:
    """Kills, and the mean work lost by one."""
    kills = sum(len(of_kind) for of_kind in f["kills"].values())
    return [(f"mean work lost by one of {kills} kills", f"{f['mean_lost_s']:.0f} s")]


def elastic(f: Figure) -> list[Row]:
    """mAP of architectures straight from the supernets: largest, smallest, mean of random ones; narrower ones."""
    rows = []
    for name, found in f["map"].items():
        values = [v for key, v in found.items() if key.startswith("random")]
        text = f"{100 * found['largest']:.1f}, {100 * found['smallest']:.1f}, {100 * sum(values) / len(values):.1f} %"
        rows.append((f"{name}: mAP50-95 of the largest, the smallest, the mean of {len(values)} random", text))
        if "half" in found:
            text = ", ".join(f"{100 * found[key]:.1f} %" for key in ("whole", "three quarters", "half"))
            rows.append((f"{name}: the network, three quarters and half of its widths", text))
    return rows


def agreement(f: Figure) -> list[Row]:
    """Models compared, plans built."""
    built = [build for m in f["models"].values() for build in m["tensorrt_rtx"].values()]
    rows = [("models compared", str(len(f["models"])))]
    if built and all(built):
        rows.append(
            (f"int8 and fp16 exports that TensorRT-RTX {built[0]['version']} builds", f"{len(built)} of {len(built)}")
        )
    return rows


def branches(f: Figure) -> list[Row]:
    """Change of mAP by kind of unit."""
    return [
        (
            f"{name}: change of mAP, {f['target']}, {f['data']}",
            f"{-u['drop']:+.2f} points of {100 * u['map_float']:.1f} %",
        )
        for name, u in f["units"].items()
    ]


def selective(f: Figure) -> list[Row]:
    """Hypervolume of the search, of random sets and of the heuristic."""
    rows: list[Row] = []
    for name, m in f["models"].items():
        v, h, r = m["volume"], m["heuristic"], m["random"]
        where = f"{name}, {f['target']}, {f['data']}"
        shares = f"{v['searched']:.3f}, {v['random']:.3f}, {v['heuristic']:.3f}"
        rows += [
            (f"{where}: share of the hypervolume of the search, random sets, the heuristic", shares),
            (
                f"{where}: change of mAP at the heuristic's latency, search and heuristic",
                f"{-h['searched_lost']:+.2f}, {-h['lost']:+.2f} points",
            ),
            (
                f"{where}: random sets that are not better than the search",
                f"{_percent(r['won_or_even'], 0)} of {r['sets']}",
            ),
        ]
    return rows


def limits(f: Figure) -> list[Row]:
    """Observation noise of NAS-Bench-201 and its share in the true front."""
    rows = [
        (
            f"{device}: latency noise; front points explained by noise; hypervolume without them",
            f"{_percent(d['latency_noise'])}; {d['lucky']} of {d['front']}; {d['without_lucky']:.4f}",
        )
        for device, d in f.items()
    ]
    return [*rows, ("accuracy noise", f"{next(iter(f.values()))['accuracy_noise']:.2f} points")]


def repeatability(f: Figure) -> list[Row]:
    """The same at the nominal speed, and the intervals that the sessions report."""
    return [
        ("the same, reported time at the nominal speed", f"± {_percent(f['half_range_at_one_anchor_speed'])}"),
        ("the same, CPU time at the nominal speed", f"± {_percent(f['half_range_cpu_at_one_anchor_speed'])}"),
        ("reported half-width, median", f"± {_percent(f['claimed_half_width_median'])}"),
    ]


def contention(f: Figure) -> list[Row]:
    """Measurements without load that are called clean."""
    return [("measurements without load that are called clean", _percent(f["clean_without_load"], 0))]


def throughput(f: Figure) -> list[Row]:
    """Seconds per candidate and part, networks like YOLO-NAS S at 640 px."""
    rows = []
    for target, row in f["targets"].items():
        s = row["seconds_per_candidate"]
        value = f"{s['total']:.1f} s: {s['make']:.2f}, {s['start_and_load']:.1f}, {s['warmup']:.1f}, {s['timing']:.1f}"
        rows.append((f"{target}: architecture to latency: ONNX, start and load, warm-up, timing", value))
        rows.append((f"{target}: torch's exporter for comparison", f"{row['torch_exporter_s']:.1f} s"))
    return rows


def other_tools(f: Figure) -> list[Row]:
    """Ratio of medians with interval."""
    return [
        (
            f"{name}: our median over that of {f[name]['tool']}",
            f"{f[name]['ratio_median']:.3f} ({f[name]['ratio_interval'][0]:.3f}…{f[name]['ratio_interval'][1]:.3f})",
        )
        for name in ("openvino", "onnxruntime")
    ]


Rows = Callable[[Figure], Sequence[Row]]


def end_to_end_steps(f: Figure) -> list[Row]:
    """Steps of every network, the fastest first."""
    return [
        (
            f"{name}: preprocessing, network, suppression, end to end",
            ", ".join(
                _milliseconds(f["models"][name][part]) for part in ("preprocessing", "network", "suppression", "total")
            ),
        )
        for name in f["by_total"]
    ]


def cpu_runtimes(f: Figure) -> list[Row]:
    """The fastest runtime of every network, beside ONNX Runtime."""
    return [
        (
            f"{name} at {row['size']} px: fastest CPU runtime",
            f"{f['fastest'][name]}, {_milliseconds(row[f['fastest'][name]]['ms'])}"
            + (
                f" ({f['speed_up_over_onnxruntime'][name]:.2f}× ONNX Runtime)"
                if name in f["speed_up_over_onnxruntime"]
                else ""
            ),
        )
        for name, row in f["models"].items()
    ]


def nothing(f: Figure) -> list[Row]:
    """No figure besides the goals."""
    return []


THEMES: Mapping[str, Mapping[str, tuple[str, Rows]]] = {
    "Quickstart": {"quickstart": ("`make quickstart`", quickstart)},
    "Search": {
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
    },
    "Supernet and training-free scores": {
        "supernet_fidelity": ("supernet and separate training, `digits@96`", fidelity),
        "elastic_supernet_bccd": ("a supernet from a trained detector, BCCD", elastic),
        "supernet_overhead_yolo-nano_cpu": ("step of the supernet, yolo-nano", ratio),
        "supernet_overhead_yolo-nas_cpu": ("step of the supernet, yolo-nas", ratio),
        "zero_cost": ("search without training", zero_cost),
        "proxy_correlation": ("training-free scores and COCO mAP on YOLOBench", proxies),
    },
    "Training": {
        "training_step_yolov8n_cpu": ("step of the training loop, YOLOv8n", training_step),
        "training_step_smallest_cpu": ("step of the training loop, smallest yolo-nano", training_step),
        "training_kills": ("a detector's and a supernet's training, killed at random moments", training_kills),
        "train_models_bccd_CPU": ("YOLO11n from scratch on BCCD", training),
        "train_models_digits-96_CPU": ("the quickstart's S, M, L from scratch, `digits@96`", training),
        "train_models_digits-320_NVIDIA-H100-80GB-HBM3": ("references from scratch, `digits@320`", training),
        "pretrained_gain_bccd": ("a start from published weights, BCCD", pretrained),
        "small_set_bccd": ("a search with its defaults on 160 images of one class", small_set),
        "transfer_gain_bccd": ("pre-training and distillation on BCCD", transfer),
    },
    "Quantization": {
        "quantization_digits_openvino": ("S, M, L of the quickstart", quantization),
        "quantization_bccd_openvino": ("YOLO11n on BCCD", quantization),
        "quantization_families_openvino": ("references and the quickstart's S, M, L, `digits@96`", families),
        "selective_quantization": ("choice of blocks kept in floating point", selective),
        "int8_agreement_digits": ("one int8 file in three runtimes, `digits@96`", agreement),
        "int8_agreement_bccd": ("one int8 file in three runtimes, BCCD", agreement),
        "branches": ("QARepVGG, RepVGG and plain units in int8", branches),
    },
    "Latency": {
        "measure_repeatability": ("repeated measurements", repeatability),
        "operation_profiles": ("latency per operation against the latency of the network", nothing),
        "counterfactuals": ("predicted and then measured steps of chosen networks", nothing),
        "end_to_end_latency": ("from a decoded image to detections, ONNX Runtime at 320 px", end_to_end_steps),
        "runtimes_cpu": ("the same networks in all CPU runtimes, fp32, one thread", cpu_runtimes),
        "search_runtimes": ("one search per edge runtime, one supernet, `digits@96`", runtime_searches),
        "suppression_inside": ("suppression inside the file, 200 images", nothing),
        "ssh_device": ("a board over SSH", nothing),
        "contention": ("detection of other load", contention),
        "against_other_tools": ("other tools on the same file", other_tools),
        "rectangles": ("squares and rectangles on wide images", rectangles),
        "profiling_throughput": ("cost of a measurement", throughput),
        "latency_predictor": ("predicted latency, YOLOBench", predictor),
        "latency_predictor_measured": ("predicted latency, `yolo-nano` at 96 to 640 px", predictor_measured),
        "bench_onnxruntime-fp32": ("references at 640 px, ONNX Runtime, one thread", bench),
        "bench_openvino-fp32": ("references at 640 px, OpenVINO", bench),
        "bench_tensorrt-rtx-fp16": ("references at 640 px, TensorRT-RTX", gpu_bench),
        "bench_torch-fp16": ("references at 640 px, PyTorch as one CUDA graph", gpu_bench),
        "aot_build": ("plans built without a GPU, 640 px", aot_build),
    },
}
"""Theme -> result -> its title and the rows besides its goals."""
