"""Rows of supernets, training-free scores and trainings."""

from __future__ import annotations

from statistics import mean

from benchmarks.result_rows.form import Figure, Row, Theme, interval, milliseconds, percent


def fidelity(f: Figure) -> list[Row]:
    """Intervals, and the correlations of cheaper scores."""
    count = len(f.get("ranked", f["architectures"]))
    return [
        (
            f"Kendall's tau over {count} architectures, by {label}",
            f"{f[key]['tau']:.2f} {interval(*f[key]['interval'])}",
        )
        for key, label in (("supernet", "the supernet's mAP"), ("macs", "MACs"), ("nwot", "NWOT"))
    ]


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


def statistics(f: Figure) -> list[Row]:
    """mAP of each weights file with statistics from images with and without augmentation."""
    rows = [
        (f"{one['name']}: mAP50-95 with statistics of images without augmentation, with it",
         f"{100 * one['plain']:.1f} %, {100 * one['augmented']:.1f} %")
        for one in f["files"]
    ]  # fmt: skip
    half = f["gain"]["half_width"]
    return [*rows, ("mean gain", f"{f['gain']['mean']:+.1f}" + ("" if half is None else f" ± {half:.1f}") + " points")]


def trained_fidelity(f: Figure) -> list[Row]:
    """Intervals of the correlations, and the distance of accuracy from the supernet to that of separate training."""
    rows = fidelity(f)
    rows.append(("Kendall's tau in the middle third by latency", interval_of(f["middle_third"])))
    for name, one in f["architectures"].items():
        if name not in f["ranked"]:
            text = f"{100 * one['straight']:.1f} %, {100 * one['alone']:.1f} %"
            rows.append((f"{name}: mAP50-95 on {f['split']} straight from the supernet, after separate training", text))
    return rows


def interval_of(one: Figure) -> str:
    """Kendall's tau with its interval."""
    return f"{one['tau']:.2f} {interval(*one['interval'])}"


def stock(f: Figure) -> list[Row]:
    """Latency and mAP of every network, and the verdict on each stock network."""
    rows = []
    for start, one in f["contests"].items():
        for name, found in one["map"].items():
            half = "" if found["deviation"] is None else f" ± {found['deviation']:.1f}"
            text = f"{milliseconds(one['ms'][name][0])}, {found['mean']:.1f}{half} %"
            verdict = one["verdicts"].get(name)
            if verdict is not None:
                faster, more = verdict["faster_at_its_map"], verdict["points_more_at_its_latency"]
                at_map = (
                    f"{verdict['faster_by']} {faster:.2f} times as fast at its mAP" if faster else "nobody has its mAP"
                )
                at_latency = (
                    f"{verdict['more_by']} {more:+.1f} points at its latency"
                    if more is not None
                    else "nobody is as fast"
                )
                text += f"; {at_map}; {at_latency}"
            rows.append((f"{start}, {one['epochs'][name]} epochs, {name}: end-to-end latency, mAP50-95", text))
    return rows


def parity(f: Figure) -> list[Row]:
    """mAP and images per second of both trainers from both starts, each the mean over seeds."""
    rows = []
    for name in (key for key in f["runs"][0] if key != "seed"):
        runs = [run[name] for run in f["runs"]]
        points = ", ".join(f"{100 * run['map']:.1f} %" for run in runs)
        rate = sum(run["images_per_s"] for run in runs) / len(runs)
        rows.append(
            (f"{name}, {f['image_size']} px, {f['epochs']} epochs: mAP50-95 per seed", f"{points}; {rate:.0f} images/s")
        )
    return rows


def ratio(f: Figure) -> list[Row]:
    """Interval of the ratio."""
    return [("95 % interval of the ratio", interval(*f["ratio_interval"]))]


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
        rows.append((what, f"{percent(row['share'])} (random choice {percent(row['share_by_chance'])})"))
    return rows


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


def training_step(f: Figure) -> list[Row]:
    """Interval of the ratio, images per second."""
    rows = [("95 % interval of the ratio", interval(*f["ratio_interval"]))]
    rows.append(("images trained per second", f"{f['taken_per_s']:.0f}"))
    return rows + [(f"images loaded per second, {name}", f"{rate:.0f}") for name, rate in f["made_per_s"].items()]


def training_kills(f: Figure) -> list[Row]:
    """Kills, and the mean work lost by one."""
    kills = sum(len(of_kind) for of_kind in f["kills"].values())
    return [(f"mean work lost by one of {kills} kills", f"{f['mean_lost_s']:.0f} s")]


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


def small_set(f: Figure) -> list[Row]:
    """mAP on the test split and speed of L, M and the reference, and the reliability that the search printed."""
    rows = []
    for run in f["runs"]:
        text = ", ".join(f"{name} {100 * one['map']:.1f} %" for name, one in run["map"].items())
        rows.append((f"seed {run['seed']}, {run['supernet_epochs']} + {f['epochs']} epochs: mAP50-95 on test", text))
        speed = ", ".join(f"{name} {times:.2f}×" for name, times in run["times_as_fast"].items())
        rows.append((f"seed {run['seed']}: times as fast as YOLOv8n", speed))
        rows.append((f"seed {run['seed']}: reliability printed before the search", run["check"].partition("; ")[2]))
    return rows


def sizes(f: Figure) -> list[Row]:
    """Mean mAP straight from each supernet at each image size."""
    maps = {way: {size: mean(values.values()) for size, values in at.items()} for way, at in f["map"].items()}
    return [
        (
            f"mean mAP50-95 on the {f['split']} split at {size} px, trained at the largest size and at all",
            f"{100 * maps['largest'][size]:.1f} % and {100 * maps['all'][size]:.1f} %",
        )
        for size in maps["all"]
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


SUPERNET: Theme = {
    "supernet_fidelity": ("supernet and separate training, `digits@96`", fidelity),
    "supernet_fidelity_deeppcb": (
        "a supernet from a trained detector and separate training, DeepPCB",
        trained_fidelity,
    ),
    "batchnorm_statistics_bccd": ("images that give BatchNorm its statistics, BCCD", statistics),
    "batchnorm_statistics_deeppcb": ("images that give BatchNorm its statistics, DeepPCB", statistics),
    "elastic_supernet_bccd": ("a supernet from a trained detector, BCCD", elastic),
    "elastic_supernet_deeppcb": ("a supernet from a trained detector, DeepPCB", elastic),
    "elastic_image_sizes_deeppcb": ("a supernet at the image sizes of its space, DeepPCB", sizes),
    "supernet_overhead_yolo-nano_cpu": ("step of the supernet, yolo-nano", ratio),
    "supernet_overhead_yolo-nas_cpu": ("step of the supernet, yolo-nas", ratio),
    "zero_cost": ("search without training", zero_cost),
    "proxy_correlation": ("training-free scores and COCO mAP on YOLOBench", proxies),
}


TRAINING: Theme = {
    "training_step_yolov8n_cpu": ("step of the training loop, YOLOv8n", training_step),
    "training_step_smallest_cpu": ("step of the training loop, smallest yolo-nano", training_step),
    "training_kills": ("a detector's and a supernet's training, killed at random moments", training_kills),
    "train_models_bccd_CPU": ("YOLO11n from scratch on BCCD", training),
    "train_models_digits-96_CPU": ("the quickstart's S, M, L from scratch, `digits@96`", training),
    "train_models_digits-320_NVIDIA-H100-80GB-HBM3": ("references from scratch, `digits@320`", training),
    "against_references_deeppcb": ("S, M and L of a search against stock networks, DeepPCB", stock),
    "against_references_deeppcb_scratch": ("the same from random weights, DeepPCB", stock),
    "against_references_bccd": ("S, M and L of a search against stock networks, BCCD", stock),
    "against_references_bccd_scratch": ("the same from random weights, BCCD", stock),
    "trainer_parity_deeppcb": ("the trainer against another one, DeepPCB", parity),
    "trainer_parity_bccd": ("the trainer against another one, BCCD", parity),
    "pretrained_gain_bccd": ("a start from published weights, BCCD", pretrained),
    "small_set_bccd": ("a search with its defaults on 160 images of one class", small_set),
    "transfer_gain_bccd": ("pre-training and distillation on BCCD", transfer),
}
