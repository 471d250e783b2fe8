"""Rows of quantization."""

from __future__ import annotations

from benchmarks.result_rows.form import Figure, Row, Theme, percent


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
                f"{percent(r['won_or_even'], 0)} of {r['sets']}",
            ),
        ]
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


QUANTIZATION: Theme = {
    "quantization_digits_openvino": ("S, M, L of the quickstart", quantization),
    "quantization_bccd_openvino": ("YOLO11n on BCCD", quantization),
    "quantization_families_openvino": ("references and the quickstart's S, M, L, `digits@96`", families),
    "selective_quantization": ("choice of blocks kept in floating point", selective),
    "int8_agreement_digits": ("one int8 file in three runtimes, `digits@96`", agreement),
    "int8_agreement_bccd": ("one int8 file in three runtimes, BCCD", agreement),
    "branches": ("QARepVGG, RepVGG and plain units in int8", branches),
}
