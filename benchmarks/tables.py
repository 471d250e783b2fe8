"""Writes the results table of the README from ``results/*.json``; a test checks that it was done: ``python -m
benchmarks.tables``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.record import RESULTS
from nas.core.atomic import atomic_write

README = RESULTS.parent / "README.md"
BEGIN, END = "<!-- results: written by python -m benchmarks.tables -->\n", "<!-- end of results -->\n"

Figure = Mapping[str, Any]


def _quickstart(f: Figure) -> str:
    nets = "; ".join(
        f"{n} {f[n]['params'] / 1e6:.2f} M parameters, {f[n]['macs'] / 1e6:.0f} M MACs, {f[n]['latency_ms']:.2f} ms, mAP {f[n]['trained_map']:.3f}"
        for n in "SML"
    )
    return f"{f['seconds']:.0f} s (goal {f['goals']['seconds']}); {nets} (goal for L {f['goals']['L_map']:.2f})"


def _fidelity(f: Figure) -> str:
    def one(name: str) -> str:
        return f"{f[name]['tau']:.2f} ({f[name]['interval'][0]:.2f}…{f[name]['interval'][1]:.2f})"

    return f"Kendall's tau {one('supernet')} over {len(f['architectures'])} architectures (goal 0.6); by MACs alone {one('macs')}, by NWOT {one('nwot')}"


def _zero_cost(f: Figure) -> str:
    cost = f["cost"]
    text = f"{cost['candidates']} candidates of {cost['space']} at {cost['image_size']} px scored in {cost['seconds']:.0f} s"
    rows = f.get("yolobench", {})
    shares = [f"{name} {row['share']:.1%} (chance {row['share_by_chance']:.1%})" for name, row in rows.items()]
    return text + (
        f"; share of the true front's hypervolume that the NWOT × latency front holds on YOLOBench: {', '.join(shares)}"
        if shares
        else ""
    )


def _aot_build(f: Figure) -> str:
    def one(name: str, row: Figure) -> str:
        return f"{name} {row['build_s']:.1f} s, {row['weights_mib']:.0f} + {row['activations_mib']:.0f} MiB"

    everything = [row for rows in f["networks"].values() for row in rows.values()]
    built = sum("failed" not in row for row in everything)
    shown = {name: rows for name, rows in f["networks"].items() if name.startswith("yolo-nas")}
    nets = (f"{name} " + ", ".join(one(p, row) for p, row in rows.items()) for name, rows in shown.items())
    return (
        f"{built} of {len(everything)} ({len(f['networks'])} references in fp32, fp16, int8) compile (TensorRT-RTX {f['version']}); build time, weights + "
        f"activations: {'; '.join(nets)}"
    )


def _predictor(f: Figure) -> str:
    parts = []
    for device, cases in f.get("yolobench", {}).items():
        hundred = " / ".join(f"{cases[f'100 measured, {how}']['within_10']:.1%}" for how in ("random", "chosen"))
        few = " / ".join(f"{cases[f'{n} of a new device, chosen']['within_10']:.1%}" for n in (10, 20))
        parts.append(
            f"{device} {hundred} from 100 random / chosen (error {cases['100 measured, random']['mape']:.1%}), {few} from 10 / 20 chosen"
        )
    return f"within ±10 %: {'; '.join(parts)}"


def _predictor_measured(f: Figure) -> str:
    parts = []
    for target, cases in f.items():
        for case, row in ((name, row) for name, row in cases.items() if "random" in name):
            twice = (
                cases.get("same_network_in_another_process", {}).get("pairs")
                and cases["same_network_in_another_process"]["within_10"]
            )
            beside = f"; another process measuring the same network: {twice:.1%}" if twice else ""
            parts.append(
                f"{target} {row['within_10']:.1%} within ±10 % from {case} (error {row['mape']:.1%}, tau {row['tau']:.3f}{beside})"
            )
    return f"{'; '.join(parts)} (goals 95 %, tau 0.95)"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _bench(f: Figure) -> str:
    first, *second = f["targets"]
    rows = f["models"]
    timed = [row[first] for row in rows.values() if "ms" in row[first]]
    width = sorted((r["high"] - r["low"]) / 2 / r["ms"] for r in timed)[len(timed) // 2]
    text = f"{len(timed)} references, {_ms(min(r['ms'] for r in timed))} to {_ms(max(r['ms'] for r in timed))} ms, median interval ± {width:.1%}"
    ranks = [f"{family} {row['rho']:.3f}" for family, row in f["order_against_published_cpu_latencies"].items()]
    text += (
        f"; Spearman with the published latencies of ONNX Runtime on a CPU: {', '.join(ranks)} (goal 0.98)"
        if ranks
        else ""
    )
    ratios = [f"{family} {ratio:.2f}×" for family, ratio in f["int8_speed_up_by_family"].items()]
    return text + (f"; int8 against {first.partition(':')[2].partition('@')[0]}: {', '.join(ratios)}" if second else "")


def _workers(f: Figure) -> str:
    shown = ", ".join(f"{n} workers {100 * e:.0f} %" for n, e in f["efficiency"].items() if n != "1")
    text = f"efficiency on evaluations of {f['seconds_of_an_evaluation']:g} s, {f['trials']} candidates: {shown} (goal {100 * f['goal']:.0f} % with 4)"
    if kills := f.get("kills"):
        text += f"; {kills['kills']} workers killed: {kills['lost']} evaluations lost (goal at most one a kill), {kills['told_twice']} candidates twice, "
        text += f"{kills['candidates']} of {kills['wanted']} at the end"
    if quality := f.get("share_of_hypervolume"):
        shares = "; ".join(f"{n} in hand {row['50']:.3f} / {row['100']:.3f}" for n, row in quality.items())
        text += f"; share of the front's hypervolume on YOLOBench after 50 / 100: {shares}"
    return text


def _end_to_end(f: Figure) -> str:
    ours = f"{f['median_each_seed']:g} ({f['median_mean']:g} to the mean of all seeds)"
    return f"`guided` has the hypervolume that NSGA-II has after {f['trials']} evaluations after {ours}, median of seeds (goal {f['trials'] // 2})"


def _gpu_bench(f: Figure) -> str:
    (target,) = f["targets"]
    shown = sorted((row[target]["ms"], name) for name, row in f["models"].items() if "ms" in row[target])
    return ", ".join(f"{name} {ms:.3g} ms" for ms, name in shown)


def _training(f: Figure) -> str:
    rows = sorted(f["models"].items(), key=lambda item: -item[1]["map"])
    recipe = f["recipe"]
    shown = ", ".join(f"{name} {row['map']:.1f}" + _on_test(row.get("test_map50_per_seed")) for name, row in rows)
    return f"mAP50-95 after {recipe['epochs']} epochs of {f['pictures']['train']} images at {f['image_size']} px, from fresh weights: {shown}"


def _on_test(map50: Sequence[float] | None) -> str:
    return f" (mAP50 on the test split {', '.join(f'{m:.1f}' for m in map50)})" if map50 else ""


def _contest(f: Figure) -> str:
    rows = f["references"]
    lost = [name for name, row in rows.items() if not row["dominated"]]
    ratios = sorted(row["faster_at_its_map"] for row in rows.values() if row["faster_at_its_map"])
    text = f"{len(rows) - len(lost)} of {len(rows)} references at {f['image_size']} px on {f['data']} are dominated"
    text += f" (not: {', '.join(lost)})" if lost else ""
    middle = f"; at a reference's mAP the searched are {ratios[0]:.2f} to {ratios[-1]:.2f} times as fast, median {ratios[len(ratios) // 2]:.2f}"
    return text + (middle if ratios else "")


def _proxies(f: Figure) -> str:
    rows = f["table"]["map50_95_coco x latency_ms_a40_tensorrt"]["tau"]
    parts = []
    for grouping, scores in rows.items():
        shown = (
            f"{name} {scores[name]['tau']:.2f}"
            for name in ("params", "macs", "activations", "nwot_table", "activations + nwot")
            if name in scores
        )
        parts.append(f"{grouping}: {', '.join(shown)}")
    ours = f["nwot_against_the_table"]
    return f"{'; '.join(parts)}; our NWOT against the table's: tau {ours['tau']:.3f} over {ours['architectures']} architectures"


def _search_quality(f: Figure) -> str:
    """Ours, with latency known where it was run, and the best of the others at the last count; seeds where they are
    fewer than elsewhere."""
    parts = []
    most = max(m["seeds"] for methods in f.values() for m in methods.values())
    for problem, methods in f.items():
        counts = [
            n
            for n in (("100", "200") if problem.startswith("NAS") else ("50", "100"))
            if all(n in m["shares"] for m in methods.values())
        ]
        others = {name: m for name, m in methods.items() if not name.startswith("guided")}
        best = max(others, key=lambda name, others=others: others[name]["shares"][counts[-1]]["mean"], default=None)  # type: ignore[misc]
        rows = {name: m for name, m in methods.items() if name.startswith("guided")} | (
            {f"best other ({best})": others[best]} if best else {}
        )
        seeds = {name: f" ({m['seeds']} seeds)" if m["seeds"] < most else "" for name, m in rows.items()}
        shown = (
            f"{name} {' / '.join(format(m['shares'][n]['mean'], '.3f') for n in counts)}{seeds[name]}"
            for name, m in rows.items()
        )
        parts.append(f"{problem} after {' / '.join(counts)}: {', '.join(shown)}")
    return "; ".join(parts)


def _training_step(f: Figure) -> str:
    made = ", ".join(f"{rate:.0f} made with {name}" for name, rate in f["made_per_s"].items())
    ratio = f"{f['ratio_median']:.2f}× ({f['ratio_interval'][0]:.2f}…{f['ratio_interval'][1]:.2f}; goal 1.15)"
    return f"{ratio}; images/s: {f['taken_per_s']:.0f} taken, {made}"


def _search_stop(f: Figure) -> str:
    runs = [run for of_problem in f.values() for run in of_problem]
    ended = [run for run in runs if run["end"] is not None]
    ends, there, after = ([run[name] for run in ended] for name in ("end", "share_at_end", "share_after_all"))
    return (
        f"{len(ended)} of {len(runs)} searches on {len(f)} tables of YOLOBench ended, after {min(ends)} to {max(ends)} candidates "
        f"(median {median(ends):.0f}), with {min(there):.4f} to {max(there):.4f} of the true front's hypervolume, "
        f"where going on brought {min(after):.4f} to {max(after):.4f}"
    )


def _search_early(f: Figure) -> str:
    def one(sampler: str, row: Figure) -> str:
        rho = {name: mean(run[name] for run in row["rho"] if name in run) for name in row["rho"][0]}
        return (
            f"`{sampler}`: {', '.join(map(str, row['stopped']))} of {row['trials']} candidates are stopped, {100 * mean(row['saved_share']):.0f} % less time "
            f"for accuracy, {100 * mean(row['hypervolume_ratio']):.1f} % of the hypervolume ({', '.join(f'{r:.3f}' for r in row['hypervolume_ratio'])}); "
            "early estimates rank as the last: " + ", ".join(f"{name} {value:.2f}" for name, value in rho.items())
        )

    return "; ".join(one(sampler, row) for sampler, row in f.items())


def _sampler_overhead(f: Figure) -> str:
    shown = (
        f"{name} {1e3 * s['median']:.0f} ms (90 % within {1e3 * s['p90']:.0f})" for name, s in f["seconds"].items()
    )
    return f"at {f['trials']} trials of `{f['space']}`: {', '.join(shown)} (goal {1e3 * f['goal']:.0f} ms)"


def _quantization(f: Figure) -> str:
    def one(mode: str, row: Figure) -> str:
        speed = "" if row["speed_up"] is None else f", {row['speed_up']:.2f} times as fast"
        beside = "".join(f", {name} {lost:+.2f}" for name, lost in row["beside"].items())
        return f"{mode}: {row['drop']:+.2f} points lost (worst {row['worst_drop']:+.2f}){speed}, {row['size_ratio']:.1f} times as small{beside}"

    def where(modes: Figure) -> str:
        return ", ".join(sorted({model["evaluated_in"] for row in modes.values() for model in row["models"].values()}))

    return "; ".join(
        f"{where(modes)}: {', '.join(one(mode, row) for mode, row in modes.items())}" for modes in f["targets"].values()
    )


def _families(f: Figure) -> str:
    models = next(iter(f["targets"].values()))["ptq"]["models"]
    shown = (
        f"{name.partition(',')[0]} {m['drop']:+.2f} of {100 * m['map_float']:.1f}, {m['speed_up'][0]:.2f}×"
        for name, m in models.items()
    )
    return f"calibrated, {next(iter(models.values()))['evaluated_in']}, points lost of the float mAP and speed: {'; '.join(shown)}"


def _transfer(f: Figure) -> str:
    def points(way: Figure) -> str:
        return f"{100 * way['mean']:+.1f} ± {100 * way['half_width']:.1f}"

    gains, alone = f["over_scratch"], 100 * f["map"]["scratch"]["mean"]
    return (
        f"{f['model']}, {len(f['runs'])} seeds, mAP50-95 {alone:.1f} from scratch; pre-trained {points(gains['pretrained'])} points, "
        f"taught by {f['teacher']} {points(gains['taught'])} (the teacher itself {points(gains['teacher'])}); 95 % intervals over seeds"
    )


def _agreement(f: Figure) -> str:
    built = [build for m in f["models"].values() for build in m["tensorrt_rtx"].values()]
    plans = (
        f"TensorRT-RTX {built[0]['version']} builds all {len(built)} exports (int8, fp16)"
        if all(built)
        else "TensorRT-RTX not installed"
    )
    return f"{len(f['models'])} models: at most {f['largest_spread']:.2f} points between OpenVINO, ONNX Runtime and torch (goal {f['goal']}); {plans}"


def _branches(f: Figure) -> str:
    shown = ", ".join(f"{name} {u['drop']:+.2f} of {100 * u['map_float']:.1f}" for name, u in f["units"].items())
    return f"{f['target']}, {f['data']}, points lost of the float network's mAP: {shown}"


def _selective(f: Figure) -> str:
    def one(name: str, m: Figure) -> str:
        v, h, r = m["volume"], m["heuristic"], m["random"]
        shares = f"{v['searched']:.3f} searched ({m['sets']} sets), {v['random']:.3f} by chance ({r['sets']}), {v['heuristic']:.3f} heuristic"
        even = f"{h['searched_lost']:+.2f} points lost against {h['lost']:+.2f}, at drawn sets' {r['won_or_even']:.0%} won or even"
        return f"{name}: share of the hypervolume {shares}; at the heuristic's latency {even}"

    return f"{f['target']}, {f['data']}: {'; '.join(one(name, m) for name, m in f['models'].items())}"


ROWS: Mapping[str, tuple[str, Callable[[Figure], str]]] = {
    "quickstart": ("`make quickstart` after installation", _quickstart),
    "supernet_fidelity": ("supernet mAP against training alone", _fidelity),
    "zero_cost": ("search without training", _zero_cost),
    "supernet_overhead_yolo-nano_cpu": (
        "a step inside the supernet against the extracted network, `yolo-nano`",
        lambda f: f"{f['ratio_median']:.2f}× ({f['ratio_interval'][0]:.2f}…{f['ratio_interval'][1]:.2f}; goal 1.15)",
    ),
    "supernet_overhead_yolo-nas_cpu": (
        "the same, `yolo-nas`",
        lambda f: f"{f['ratio_median']:.2f}× ({f['ratio_interval'][0]:.2f}…{f['ratio_interval'][1]:.2f}; goal 1.15)",
    ),
    "training_step_yolov8n_cpu": (
        "a step of the training loop against plain forward + backward + optimizer, YOLOv8n at 320 px",
        _training_step,
    ),
    "training_step_smallest_cpu": ("the same, the smallest `yolo-nano` at 96 px", _training_step),
    "measure_repeatability": (
        "`nas measure`, one model in fresh processes",
        lambda f: (
            f"medians of {len(f['medians_ms'])} sittings within ± {f['half_range']:.1%} (goal 5 %), "
            f"at one anchor speed ± {f['half_range_at_one_anchor_speed']:.1%}; "
            f"by CPU time ± {f['half_range_cpu']:.1%}, at one anchor speed ± {f['half_range_cpu_at_one_anchor_speed']:.1%} (goal 3 %); "
            f"each claims ± {f['claimed_half_width_median']:.1%}"
        ),
    ),
    "contention": (
        "a busy machine is noticed",
        lambda f: (
            f"{f['flagged']:.0%} of {sum(row['trials'] for name, row in f['loads'].items() if name != 'none')} measurements beside "
            f"{', '.join(name for name in f['loads'] if name != 'none')} busy processes are called contended (goal 100 %), "
            f"{f['clean_without_load']:.0%} without load are called clean"
        ),
    ),
    "profiling_throughput": (
        "architecture to measured latency, networks like YOLO-NAS S at 640 px",
        lambda f: "; ".join(
            f"{name}: {row['seconds_per_candidate']['total']:.1f} s, {row['share_not_timing']:.0%} of it not timing (goal 30 %): ONNX "
            f"{row['seconds_per_candidate']['make']:.2f} s (torch's exporter {row['torch_exporter_s']:.1f} s), start and load "
            f"{row['seconds_per_candidate']['start_and_load']:.1f} s, warm-up {row['seconds_per_candidate']['warmup']:.1f} s"
            for name, row in f["targets"].items()
        ),
    ),
    "against_other_tools": (
        "the same file by another tool",
        lambda f: "; ".join(
            f"our median by {f[name]['tool']}'s, {name}: {f[name]['ratio_median']:.3f} ({f[name]['ratio_interval'][0]:.3f}…"
            f"{f[name]['ratio_interval'][1]:.3f}; goal within 5 %)"
            for name in ("openvino", "onnxruntime")
        ),
    ),
    "aot_build": ("plans of the references at 640 px with no GPU", _aot_build),
    "latency_predictor": ("latency predicted for unseen architectures, YOLOBench", _predictor),
    "latency_predictor_measured": ("the same, `yolo-nano` at 96 to 640 px on this machine", _predictor_measured),
    "bench_onnxruntime-fp32": ("the references at 640 px on this machine, ONNX Runtime, one thread", _bench),
    "bench_openvino-fp32": ("the same, OpenVINO, fp32 and int8", _bench),
    "bench_tensorrt-rtx-fp16": (
        "references at 640 px on an NVIDIA H100, TensorRT-RTX, batch 1 (one round of an interrupted bench)",
        _gpu_bench,
    ),
    "bench_torch-fp16": ("the same, PyTorch as one CUDA graph", _gpu_bench),
    "train_models_bccd_CPU": ("YOLO11n from scratch on BCCD, two CPU cores", _training),
    "transfer_gain_bccd": ("pre-training on digits, and a teacher, on BCCD", _transfer),
    "train_models_digits-96_CPU": ("the quickstart's S, M, L from scratch, `digits@96`, two CPU cores", _training),
    "train_models_digits-320_NVIDIA-H100-80GB-HBM3": ("references trained on an NVIDIA H100, `digits@320`", _training),
    "against_references": ("searched against width-scaled references, one recipe, budget and seeds", _contest),
    "quantization_digits_openvino": (
        "int8 of the quickstart's S, M, L: calibrated, selective, fine-tuned, beside their controls",
        _quantization,
    ),
    "quantization_bccd_openvino": ("the same, YOLO11n on BCCD at 320 px", _quantization),
    "int8_agreement_digits": ("one int8 file in three runtimes, `digits@96`", _agreement),
    "int8_agreement_bccd": ("the same, BCCD", _agreement),
    "branches": ("one network with QARepVGG, RepVGG and plain units, post-training int8", _branches),
    "quantization_families_openvino": (
        "int8 of references (trained briefly) and of the quickstart's S, M, L, `digits@96`",
        _families,
    ),
    "selective_quantization": ("float blocks chosen by the search, by chance and by the heuristic", _selective),
    "proxy_correlation": ("training-free scores against COCO mAP (YOLOBench; Kendall's tau)", _proxies),
    "search_quality": (
        "share of the true front's hypervolume that a search holds, tables of trained networks",
        _search_quality,
    ),
    "search_limits": (
        "luck on the true fronts of NAS-Bench-201 (noise; points more than two sigma below what a model expects)",
        lambda f: (
            "; ".join(
                f"{device}: latency noise {100 * d['latency_noise']:.1f} %, {d['lucky']} of {d['front']} points lucky, without them {d['without_lucky']:.4f}"
                for device, d in f.items()
            )
            + f"; accuracy noise {next(iter(f.values()))['accuracy_noise']:.2f} points"
        ),
    ),
    "sampler_overhead": ("a proposal", _sampler_overhead),
    "search_stop": ("`--stop auto`", _search_stop),
    "search_early": ("stopping candidates without a chance, the quickstart's search", _search_early),
    "search_end_to_end": ("the quickstart's search, evaluations recorded", _end_to_end),
    "workers": ("many workers on one study", _workers),
    "study_overhead_random": (
        "study and database per candidate, at 1,000",
        lambda f: f"{f['ms_per_candidate_median']:.0f} ms (goal 40)",
    ),
}


def table(folder: Path = RESULTS) -> str:
    """Markdown: one row for every result there is, in the order of :data:`ROWS`; a file that no row is known for is
    an error."""
    if unknown := {p.stem for p in folder.glob("*.json")} - set(ROWS):
        raise KeyError(f"results without a row in {Path(__file__).name}: {sorted(unknown)}")
    lines = ["| what | measured | command, date |", "|---|---|---|"]
    machines = set()
    for name, (title, text) in ROWS.items():
        path = folder / f"{name}.json"
        if path.exists():
            record = json.loads(path.read_text())
            machine = record["machine"]
            versions, gpu = record["versions"], machine.get("accelerator")
            ran = f"torch {versions['torch']}" if "torch" in versions else f"runtime {versions['runtime']}"
            machines.add(f"{machine['cpu']}, {machine['cores']} cores, {gpu or ' '.join(machine['flags'])}; {ran}")
            lines.append(f"| {title} | {text(record['figure'])} | `{record['command']}`, {record['date'][:10]} |")
    return "\n".join([*lines, "", *(f"Machine: {m}." for m in sorted(machines)), ""])


def updated(readme: str) -> str:
    """The README's text with the table as it should be."""
    before, _, rest = readme.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the README has no {BEGIN.strip()} … {END.strip()}")
    return before + BEGIN + "\n" + table() + "\n" + END + after


if __name__ == "__main__":
    atomic_write(README, updated(README.read_text()))
