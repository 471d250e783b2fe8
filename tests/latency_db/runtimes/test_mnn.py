"""MNN computes every block, head and family as torch does, in fp32, decoding included."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from latency_db.runtimes import mnn as runtime
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES
from tests._models import write_model
from tests._onnx_cells import BATCH, KINDS, assert_near, cell, smallest

pytestmark = pytest.mark.skipif(RUNTIMES["mnn"].available() is not None, reason="MNN not installed")


@pytest.mark.parametrize("act", ["relu", "silu"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_block_and_head_equals_torch(kind: str, act: str, tmp_path: Path) -> None:
    made = cell(kind, act, tmp_path)
    network = runtime._Network(made.path, tmp_path, BATCH, None, 1)
    assert list(network.inputs) == list(made.inputs)
    assert_near(network.outputs(*made.inputs.values()), made.wanted)


@pytest.mark.parametrize("name", list(SPACES))
def test_a_network_of_every_space_equals_torch(name: str, tmp_path: Path) -> None:
    made = smallest(name, tmp_path)
    session = RUNTIMES["mnn"].open_session(Target("mnn", batch=BATCH), made.path)
    assert session is not None
    assert_near(list(session(made.inputs["images"])), made.wanted)


def test_full_precision_is_in_the_settings_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(write_model(tmp_path / "m.onnx", 2))
    step, info = runtime.engine({"model": model, "batch": 3, "image_size": None, "threads": 2, "seed": 0})
    step()
    assert info == {"backend": "CPU", "precision": "high", "numThread": 2, "inputs": {"x0": [3, 16, 32, 32]}}
    assert capfd.readouterr().out == ""


def test_only_the_cpu_in_fp32() -> None:
    for target in (Target("mnn", device="cuda:0"), Target("mnn", "fp16")):
        with pytest.raises(InputError, match=r"cuda:0|fp16"):
            RUNTIMES["mnn"](target)
