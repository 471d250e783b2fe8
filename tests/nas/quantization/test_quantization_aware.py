"""Fine-tuning with fake quantization: the very numbers of the file, gradients through the rounding, and files that a
second call finds."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from latency_db.conversion.int8 import _reconnect
from latency_db.conversion.onnx_parts import named
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.core.target import Target
from nas.core.console_reporter import ConsoleReporter
from nas.inference.detect import batches
from nas.quantization import qat as fine_tuning
from nas.quantization.fake_quantization import FakeQuantConv2d, Rounding, fake_quantized, plain, roundings
from nas.quantization.lint import lint
from nas.quantization.model import CalibrationConfig
from nas.quantization.ptq import QuantizationRequest, QuantizationSettings
from nas.quantization.qat import QatConfig, QatTask, quantize_aware
from nas.quantization.runtime_accuracy import distortion
from nas.training.loss import Truth
from nas.training.recipe import Recipe
from search_spaces.errors import InputError
from tests._progress import Recording
from tests._quantized import SIZE, shelf, subject

ROUNDING = Rounding(0.1, 128, (0, 255))


def test_fake_quantization_computes_what_the_file_does(tmp_path: Path) -> None:
    """Torch's outputs against the int8 file's in ONNX Runtime without its rewriting, which then computes every node
    as it is written.

    What is no convolution reads the rounded tensors in the file, in training it does not: here the file is rewired so
    that it does not either.
    """
    half = subject("tensorrt-rtx:int8")
    # What is outside int8 in float32: rounded to float16, many a value lands on the other side of an int8 step.
    form = replace(half.calibrated.form, rest="fp32")
    made = replace(half, calibrated=replace(half.calibrated, form=form))
    out = tmp_path / "q.onnx"
    made.write(out)
    rounds = roundings(made.calibrated.proto, out)
    assert len(rounds) == lint(out).count("int8") > 20
    fake = fake_quantized(copy.deepcopy(made.detector), rounds, made.scheme).eval()
    (batch,) = batches(shelf().data.val, SIZE)
    images = batch.images.float() / 255
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = onnx.load(out)
    _reconnect(
        proto, {n.name for n in proto.graph.node if n.op_type not in ("Conv", "QuantizeLinear", "DequantizeLinear")}
    )
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    file = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        ours, exact = ([t.numpy() for t in d.predict(images)] for d in (fake, made.detector))
    rounding = distortion((exact[0], exact[1]), (file[0], file[1]))
    # Not bit for bit: a sum that lands on the other side of a rounding step moves what follows.
    assert distortion((file[0], file[1]), (ours[0], ours[1])) < 0.3 * rounding and rounding > 0.01
    back = plain(fake)
    assert not any(isinstance(m, FakeQuantConv2d) for m in back.modules())
    with torch.no_grad():
        assert all(
            torch.equal(a, b)
            for a, b in zip(back.predict(images), subject("tensorrt-rtx:int8").detector.predict(images), strict=True)
        )


@pytest.mark.parametrize("bits", [8, 7])
def test_weights_are_rounded_as_in_the_file(bits: int) -> None:
    conv = nn.Conv2d(3, 4, 3)
    fake = FakeQuantConv2d(conv, Rounding(1e-6, 128, (0, 255)), bits)
    limit = {8: 127, 7: 64}[bits]
    scale = conv.weight.detach().abs().amax((1, 2, 3), keepdim=True) / limit
    rounded = torch.round(conv.weight / scale).clamp(-limit, limit) * scale
    x = torch.zeros(1, 3, 3, 3)
    for channel, row, column in ((0, 0, 0), (2, 1, 2)):
        x.zero_()[0, channel, row, column] = 1e-6  # one step of the input: what comes out is one weight
        found = (fake(x) - conv.bias[:, None, None])[0, :, 0, 0] / 1e-6 if conv.bias is not None else None
        assert found is not None and torch.allclose(found, rounded[:, channel, row, column], atol=1e-2)


def test_gradients_pass_the_rounding_but_not_its_limits() -> None:
    conv = nn.Conv2d(1, 1, 1, bias=False)
    fake = FakeQuantConv2d(conv, ROUNDING, 8)
    x = torch.tensor([[[[0.33, 100.0]]]], requires_grad=True)
    fake(x).sum().backward()
    assert x.grad is not None and x.grad[0, 0, 0, 0] != 0 and x.grad[0, 0, 0, 1] == 0  # 100 is cut off at 12.7
    assert conv.weight.grad is not None and conv.weight.grad.item() == pytest.approx(0.3 + 12.7, abs=1e-5)
    assert fake.plain().weight is conv.weight


def test_rounding_of_a_convolution_that_there_is_not() -> None:
    with pytest.raises(InputError, match="cells.none"):
        fake_quantized(
            copy.deepcopy(subject("tensorrt-rtx:int8").detector),
            {"cells.none": ROUNDING},
            subject("tensorrt-rtx:int8").scheme,
        )


def test_the_rule() -> None:
    trained = Recipe(epochs=40, lr=0.01, weight_decay=0.02)
    rule = QatConfig().recipe(trained)
    assert (rule.epochs, rule.precision) == (4, "fp32")
    assert [rule.lr, rule.weight_decay] == pytest.approx([1e-4, 2e-4])
    assert QatConfig().recipe(Recipe(epochs=3)).epochs == 1 and QatConfig(epochs=7, lr=1e-3).recipe(trained).lr == 1e-3


def test_a_teacher_that_agrees_adds_nothing() -> None:
    torch.manual_seed(0)
    student, teacher = (copy.deepcopy(subject("tensorrt-rtx:int8").detector) for _ in range(2))
    task = QatTask(student, teacher, "same", Recipe().loss(), 1.0)
    images = torch.rand(2, 3, SIZE, SIZE)
    truth = Truth(torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([3]), torch.tensor([1]))
    ((_, terms),) = list(task.losses(images, truth, 0))
    assert abs(float(terms["distil"])) < 1e-4
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.02 * torch.randn_like(p))
    ((loss, terms),) = list(task.losses(images, truth, 0))
    assert float(terms["distil"]) > 1e-3
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters()) and any(p.grad is not None for p in student.parameters())


def test_qat_beside_its_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        QatConfig,
        "recipe",
        lambda self, trained: Recipe(epochs=1, batch_size=8, lr=1e-4, warmup_steps=1, precision="fp32"),
    )
    out = tmp_path / "S.onnx"
    settings = QuantizationSettings(CalibrationConfig(16), rounds=0)
    target = Target.parse(f"onnxruntime:int8@{SIZE}")
    request = QuantizationRequest(shelf().weights, shelf().data, target, out, settings)
    reporter = Recording()
    report = quantize_aware(request, QatConfig(device="cpu"), reporter)
    reporter.check("accuracy", "qat, 1 epoch")
    assert not lint(out).errors
    assert [v.name for v in (report.before, report.after, *report.others)] == [
        "fp32",
        "int8",
        "ptq",
        "fine-tuned float",
        "control: float steps, ptq",
        "fine-tuned float (qat)",
    ]
    weights = [
        _first_weight(path)
        for path in (
            tmp_path / "S" / "S-float.onnx",
            tmp_path / "S" / "control-float.onnx",
            tmp_path / "S" / "qat-float.onnx",
        )
    ]
    assert all(not np.array_equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert not list((tmp_path / "S").glob("*.ckpt"))
    monkeypatch.setattr(fine_tuning, "fit", lambda *_, **__: pytest.fail("trained again"))
    recipe, folder = QatConfig().recipe(Recipe()), tmp_path / "S"
    again = (subject("onnxruntime:int8"), request, recipe, QatConfig(device="cpu"))
    names = [
        fine_tuning._FineTuning(kind, *again).run(folder / "ptq.onnx", ConsoleReporter()).name
        for kind in ("control", "qat")
    ]
    assert names == [
        "control-float.onnx",
        "qat-float.onnx",
    ]


def _first_weight(path: Path) -> npt.NDArray[np.float32]:
    proto = named(onnx.load(path))
    return onnx.numpy_helper.to_array(next(t for t in proto.graph.initializer if len(t.dims) == 4))


def test_the_form_has_the_bits() -> None:
    assert (
        FakeQuantConv2d(nn.Conv2d(1, 1, 1), ROUNDING, QuantizationScheme("u8", weight_bits=7).weight_bits).weight_limit
        == 64
    )
