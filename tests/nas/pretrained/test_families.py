"""Published weights by name: a record of each original network's names, shapes and outputs, imported and compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.core.references import reference_of
from nas.pretrained.convert import import_weights, weights_file
from nas.pretrained.families.base import with_identity_norms
from nas.supernet.weights import load_detector
from nas.training.supernet_initialization import default_space, trained_point
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from search_spaces.layers import BN_EPS, ConvNormAct
from tests._published import CLASSES, RECORDED, image, sampled, state_of, value_of

RECORDS = sorted(RECORDED.glob("*.json"))
BOXES_WITHIN, SCORES_WITHIN = 2e-2, 1e-4
"""Pixels of a box whose sides are sums over 16 bins times a stride of up to 32, and shares."""
WITHIN = 1e-4
"""Of a recorded coordinate in pixels and of a recorded score, both computed in double precision."""


def saved(record: dict[str, Any], folder: Path, name: str) -> Path:
    """A checkpoint with the record's tensors, as ``torch.save`` of a state dict writes it."""
    state = dict(state_of(record)) | {n: torch.tensor(v) for n, v in record["constants"].items()}
    path = folder / f"{name}.pt"
    torch.save({"model": state}, path)
    return path


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in RECORDS])
def test_outputs_equal_those_of_the_original(path: Path, tmp_path: Path) -> None:
    record = json.loads(path.read_text())
    out = tmp_path / "imported.safetensors"
    done = import_weights(saved(record, tmp_path, path.stem), out, accept_licence=True)
    assert done.reference == path.stem
    detector, artifact, header = load_detector(out)
    assert (artifact.name, artifact.num_classes) == (path.stem, CLASSES)
    assert header["imported"]["licence"] == done.licence
    with torch.no_grad():
        boxes, scores = detector.double().predict(image(torch.float64))
    found = sampled(boxes[0], scores[0])
    for name in ("boxes", "scores"):
        expected, given = (torch.tensor(o[name], dtype=torch.float64) for o in (record["outputs"], found))
        assert given.shape == expected.shape
        assert (given - expected).abs().max() < WITHIN, name


WIDENED = {"0.0.": (False, False), "0.1.": (True, False), "1.0.": (True, False), "1.1.": (True, True)}
"""Place in a class branch of pairs of depthwise and 1x1 convolutions -> which axes, out and in, are as wide as it is."""
PLAIN = {"0.": (True, False), "1.": (True, True), "2.": (False, True)}
"""The same of the other class branches, and of the last layer of all."""


def widened(record: dict[str, Any], wide: int) -> dict[str, torch.Tensor]:
    """The tensors of a record with class branches of ``wide`` channels, as Ultralytics' trainer leaves them: it replaces
    the last layer of a network of other classes alone."""
    found = {}
    for name, tensor in state_of(record):
        shape = list(tensor.shape)
        if match := re.search(r"cv3\.\d\.(.+)", name):
            place = next(p for p in (*WIDENED, *PLAIN) if match[1].startswith(p))
            out, within = (WIDENED | PLAIN)[place]
            shape[0] = wide if out else shape[0]
            if len(shape) == 4 and within:
                shape[1] = wide
        found[name] = value_of(name, tuple(shape))
    return found


@pytest.mark.parametrize("wide", [80, 100])
@pytest.mark.parametrize("name", ["yolov8n", "yolo11n", "yolo12n", "yolo26n", "yolov5nu"])
def test_networks_fine_tuned_from_more_classes_fit(name: str, wide: int, tmp_path: Path) -> None:
    state = widened(json.loads((RECORDED / f"{name}.json").read_text()), wide)
    torch.save({"model": state}, tmp_path / "best.pt")
    done = import_weights(tmp_path / "best.pt", tmp_path / "best.safetensors")
    assert (done.reference, done.branch_classes, len(done.classes)) == (name, wide, CLASSES)
    assert any(f"as wide as for {wide} classes" in line for line in done.lines())
    detector, artifact, _ = load_detector(tmp_path / "best.safetensors")
    assert artifact.architecture.choices[-1] == ("branch_classes", wide)
    known = reference_of(artifact.architecture)
    assert (
        known is not None
        and known.name == name
        and default_space(artifact).name in ("yolo-universal-nano", known.architecture.space)
    )
    last = next(t for n, t in detector.state_dict().items() if re.search(r"label\.0\.last\.weight", n))
    assert last.shape[:2] == (CLASSES, wide)
    assert torch.equal(
        last,
        next(
            t
            for n, t in state.items()
            if n.endswith("one2one_cv3.0.2.weight" if name == "yolo26n" else ".cv3.0.2.weight")
        ),
    )
    with torch.no_grad():
        assert detector.predict(image())[1].shape[-1] == CLASSES
    # a supernet begins with the network that its space has, so with narrower class branches
    trained = trained_point(tmp_path / "best.safetensors", default_space(artifact), artifact.classes)
    assert "branch_classes" not in dict(trained.architecture.choices) and trained.classes_kept == CLASSES


def test_the_records_hold_every_map() -> None:
    from nas.pretrained.families import WEIGHT_MAPS
    from search_spaces.references import references

    families = {references()[path.stem].family for path in RECORDS}
    without = [name for name in WEIGHT_MAPS if not families & set(WEIGHT_MAPS[name].references)]
    assert without == []


@pytest.fixture
def yolov8n() -> dict[str, torch.Tensor]:
    record = json.loads((RECORDED / "yolov8n.json").read_text())
    return dict(state_of(record))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module.model."])
def test_prefixes_of_wrappers_fall_away(prefix: str, yolov8n: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": {prefix + n: t for n, t in yolov8n.items()}}, tmp_path / "a.pth")
    assert import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors").reference == "yolov8n"


def test_the_average_goes_first(yolov8n: dict[str, torch.Tensor], tmp_path: Path) -> None:
    ema = {n: t + 1 if n.endswith("cv3.0.2.bias") else t for n, t in yolov8n.items()}
    torch.save({"model": yolov8n, "ema": ema}, tmp_path / "a.pt")
    import_weights(tmp_path / "a.pt", tmp_path / "a.safetensors")
    bias = load_detector(tmp_path / "a.safetensors")[0].state_dict()["cells.head-decoupled.branches.label.0.last.bias"]
    assert torch.equal(bias, ema["model.22.cv3.0.2.bias"])


def test_half_precision_and_facts_of_the_file(yolov8n: dict[str, torch.Tensor], tmp_path: Path) -> None:
    content = {
        "model": {n: t.half() for n, t in yolov8n.items()},
        "names": {i: f"kind {i}" for i in range(CLASSES)},
        "train_args": {"imgsz": 320},
        "license": "AGPL-3.0 License",
    }
    torch.save(content, tmp_path / "a.pt")
    done = import_weights(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert (done.classes, done.image_size, done.licence) == (
        tuple(f"kind {i}" for i in range(CLASSES)),
        ImageSize(320, 320),
        "AGPL-3.0 License",
    )
    detector, artifact, _ = load_detector(tmp_path / "a.safetensors")
    assert artifact.architecture["image_size"] == 320
    assert all(t.dtype == torch.float32 for t in detector.parameters())


def test_class_names_that_are_empty_or_repeated(yolov8n: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"model": yolov8n, "names": ["cat", "", "cat", "dog\x1b[31m", "mouse"]}, tmp_path / "a.pt")
    done = import_weights(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert done.classes == ("cat", "class1", "cat (2)", "dog[31m", "mouse")


def test_published_weights_are_imported_once(
    yolov8n: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.save({"model": yolov8n}, tmp_path / "a.pt")
    first = weights_file(tmp_path / "a.pt")
    written = first.stat().st_mtime_ns
    assert weights_file(tmp_path / "a.pt") == first
    assert first.stat().st_mtime_ns == written
    assert weights_file(first) == first
    with pytest.raises(InputError, match="no weights file"):
        weights_file(tmp_path / "b.pt")


def test_every_odd_tensor_is_named(yolov8n: dict[str, torch.Tensor], tmp_path: Path) -> None:
    for change, words in (
        ({"model.3.conv.weight": torch.zeros(1, 2, 3, 3)}, "of another shape .first stage2_down-conv.conv.conv.weight"),
        ({"model.99.extra": torch.zeros(1)}, "without a place .first model.99.extra"),
    ):
        torch.save({"model": {**yolov8n, **change}}, tmp_path / "a.pt")
        with pytest.raises(InputError, match=words):
            import_weights(tmp_path / "a.pt", tmp_path / "a.safetensors")
        assert not (tmp_path / "a.safetensors").exists()
    lacking = {n: t for n, t in yolov8n.items() if n != "model.3.conv.weight"}
    torch.save({"model": lacking}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="missing .first stage2_down"):
        import_weights(tmp_path / "a.pt", tmp_path / "a.safetensors")


def test_a_network_of_no_known_family(tmp_path: Path) -> None:
    torch.save({"model": {"layer1.weight": torch.ones(3)}}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="no network of a known family"):
        import_weights(tmp_path / "a.pt", tmp_path / "a.safetensors")


def test_a_restricted_licence_needs_a_word(tmp_path: Path) -> None:
    record = json.loads((RECORDED / "yolo-nas-s.json").read_text())
    with pytest.raises(InputError, match="--accept-licence"):
        import_weights(saved(record, tmp_path, "a"), tmp_path / "a.safetensors")


def test_folded_batch_norm_of_an_onnx_file(yolov8n: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Initialisers by name; the outputs are those of the network before it was folded."""
    import onnx
    from onnx import helper, numpy_helper

    torch.save({"model": yolov8n}, tmp_path / "a.pt")
    import_weights(tmp_path / "a.pt", tmp_path / "a.safetensors")
    folded: dict[str, torch.Tensor] = {}
    for name, tensor in yolov8n.items():
        stem = name.rpartition(".conv.weight")[0]
        if f"{stem}.bn.weight" in yolov8n:
            scale = yolov8n[f"{stem}.bn.weight"] / (yolov8n[f"{stem}.bn.running_var"] + 1e-3).sqrt()
            folded[name] = tensor * scale[:, None, None, None]
            folded[f"{stem}.conv.bias"] = yolov8n[f"{stem}.bn.bias"] - yolov8n[f"{stem}.bn.running_mean"] * scale
        elif ".bn." not in name and "dfl" not in name:
            folded[name] = tensor
    tensors = [numpy_helper.from_array(t.numpy(), n) for n, t in folded.items()]
    graph = helper.make_graph([], "g", [], [], tensors)
    model = helper.make_model(graph)
    helper.set_model_props(model, {"names": str({i: f"k{i}" for i in range(CLASSES)}), "imgsz": "[96, 96]"})
    onnx.save(model, tmp_path / "a.onnx")
    done = import_weights(tmp_path / "a.onnx", tmp_path / "b.safetensors")
    assert done.folded
    assert (done.image_size, done.classes[1]) == (ImageSize(96, 96), "k1")
    with torch.no_grad():
        a, b = (load_detector(tmp_path / f"{n}.safetensors")[0].predict(image()) for n in "ab")
    assert (a[0] - b[0]).abs().max() < BOXES_WITHIN
    assert (a[1] - b[1]).abs().max() < SCORES_WITHIN


@pytest.mark.parametrize("stem", ["stage1_down-conv.", "head-dfl.levels.0.stem."])
def test_a_bias_before_a_norm_is_folded_into_its_mean(stem: str) -> None:
    """YOLOv6-L has convolutions with a bias and a BatchNorm; those here have no bias."""
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8, eps=BN_EPS).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.data.uniform_(0.5, 1.5)
    middle = "conv." if stem.endswith("conv.") else ""
    given = {f"cells.{stem}{middle}conv.{n}": t for n, t in conv.state_dict().items()}
    given |= {f"cells.{stem}{middle}norm.{n}": t for n, t in norm.state_dict().items() if t.dim()}
    ours = ConvNormAct((3,), (8,), 3, act="identity").eval()
    names = {f"cells.{stem}{middle}{n}" for n in ours.state_dict()}
    placed = with_identity_norms(given, names)
    own = {n.removeprefix(f"cells.{stem}{middle}"): t for n, t in placed.items()}
    assert set(own) == {n for n, t in ours.state_dict().items() if t.dim()}
    ours.load_state_dict({**own, "norm.num_batches_tracked": torch.tensor(0)})
    x = torch.rand(2, 3, 9, 9)
    with torch.no_grad():
        assert torch.allclose(ours(x), norm(conv(x)), atol=1e-5)


def test_an_import_never_replaces_other_weights(yolov8n: dict[str, torch.Tensor], tmp_path: Path) -> None:
    out = tmp_path / "S.safetensors"
    torch.save({"model": yolov8n}, tmp_path / "a.pt")
    torch.save({"model": {n: t + 1 for n, t in yolov8n.items()}}, tmp_path / "b.pt")
    import_weights(tmp_path / "a.pt", out)
    import_weights(tmp_path / "a.pt", out)  # the same again
    before = out.read_bytes()
    for content in (before, b"my notes"):
        out.write_bytes(content)
        with pytest.raises(InputError, match="exists, and is no import of"):
            import_weights(tmp_path / "b.pt", out)
        assert out.read_bytes() == content
