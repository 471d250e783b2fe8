"""Rows of latencies and how they are measured."""

from __future__ import annotations

from benchmarks.result_rows.form import Figure, Row, Theme, milliseconds, nothing, percent


def repeatability(f: Figure) -> list[Row]:
    """The same at the nominal speed, and the intervals that the sessions report."""
    return [
        ("the same, reported time at the nominal speed", f"± {percent(f['half_range_at_one_anchor_speed'])}"),
        ("the same, CPU time at the nominal speed", f"± {percent(f['half_range_cpu_at_one_anchor_speed'])}"),
        ("reported half-width, median", f"± {percent(f['claimed_half_width_median'])}"),
    ]


def end_to_end_steps(f: Figure) -> list[Row]:
    """Steps of every network, the fastest first."""
    return [
        (
            f"{name}: preprocessing, network, suppression, end to end",
            ", ".join(
                milliseconds(f["models"][name][part]) for part in ("preprocessing", "network", "suppression", "total")
            ),
        )
        for name in f["by_total"]
    ]


def cpu_runtimes(f: Figure) -> list[Row]:
    """The fastest runtime of every network, beside ONNX Runtime."""
    return [
        (
            f"{name} at {row['size']} px: fastest CPU runtime",
            f"{f['fastest'][name]}, {milliseconds(row[f['fastest'][name]]['ms'])}"
            + (
                f" ({f['speed_up_over_onnxruntime'][name]:.2f}× ONNX Runtime)"
                if name in f["speed_up_over_onnxruntime"]
                else ""
            ),
        )
        for name, row in f["models"].items()
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


def ssh_device(f: Figure) -> list[Row]:
    """Medians of every model here and over SSH."""
    return [
        (
            f"model {i}, median of {f['rounds']} rounds here and over SSH",
            f"{m['here_ms']:.3g} ms, {m['there_ms']:.3g} ms",
        )
        for i, m in enumerate(f["models"], 1)
    ]


def contention(f: Figure) -> list[Row]:
    """Measurements without load that are called clean."""
    return [("measurements without load that are called clean", percent(f["clean_without_load"], 0))]


def other_tools(f: Figure) -> list[Row]:
    """Ratio of medians with interval."""
    return [
        (
            f"{name}: our median over that of {f[name]['tool']}",
            f"{f[name]['ratio_median']:.3f} ({f[name]['ratio_interval'][0]:.3f}…{f[name]['ratio_interval'][1]:.3f})",
        )
        for name in ("openvino", "onnxruntime")
    ]


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


def throughput(f: Figure) -> list[Row]:
    """Seconds per candidate and part, networks like YOLO-NAS S at 640 px."""
    rows = []
    for target, row in f["targets"].items():
        s = row["seconds_per_candidate"]
        value = f"{s['total']:.1f} s: {s['make']:.2f}, {s['start_and_load']:.1f}, {s['warmup']:.1f}, {s['timing']:.1f}"
        rows.append((f"{target}: architecture to latency: ONNX, start and load, warm-up, timing", value))
        rows.append((f"{target}: torch's exporter for comparison", f"{row['torch_exporter_s']:.1f} s"))
    return rows


def predictor(f: Figure) -> list[Row]:
    """Error from 100 networks; share within 10 % in the other cases."""
    rows = []
    for device, cases in f["yolobench"].items():
        rows.append((f"{device}: mean error from 100 measured, random", percent(cases["100 measured, random"]["mape"])))
        for case, row in cases.items():
            if case != "100 measured, random":
                rows.append((f"{device}: unseen networks within ±10 % from {case}", percent(row["within_10"])))
    return rows


def predictor_measured(f: Figure) -> list[Row]:
    """Mean error, and how well another process's measurement of the same network agrees."""
    rows = []
    for target, cases in f.items():
        rows += [
            (f"{target}: mean error from {name}", percent(row["mape"]))
            for name, row in cases.items()
            if "random" in name
        ]
        again = cases.get("same_network_in_another_process", {})
        if again.get("pairs"):
            what = f"{target}: measurements within ±10 % of those of other processes, same network"
            rows.append((what, percent(again["within_10"])))
    return rows


def bench(f: Figure) -> list[Row]:
    """Range of latencies, width of intervals, speed-up of int8."""
    first, *second = f["targets"]
    timed = [row[first] for row in f["models"].values() if "ms" in row[first]]
    width = sorted((r["high"] - r["low"]) / 2 / r["ms"] for r in timed)[len(timed) // 2]
    span = f"{milliseconds(min(r['ms'] for r in timed))} … {milliseconds(max(r['ms'] for r in timed))}"
    rows = [
        (f"{len(timed)} references at {first}: latencies", span),
        ("median half-width of the 95 % intervals", f"± {percent(width)}"),
    ]
    if second:
        rows += [(f"{name}: int8 speed-up", f"{ratio:.2f}×") for name, ratio in f["int8_speed_up_by_family"].items()]
    return rows


def gpu_bench(f: Figure) -> list[Row]:
    """Latency of each reference, fastest first; one round of an interrupted bench."""
    (target,) = f["targets"]
    timed = sorted((row[target]["ms"], name) for name, row in f["models"].items() if "ms" in row[target])
    return [(f"{name}, {target}, batch 1, {f['rounds']} round", f"{ms:.3g} ms") for ms, name in timed]


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


LATENCY: Theme = {
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
}
