"""A certificate compares what was said with what is measured again; the command does it for a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latency_db.core.measurement import Measurement
from latency_db.core.target import Target
from nas.cli import main
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Estimate
from nas.search.certificate import Certificate, PipelineTimes, certificate_table, write_certificates

TARGET = Target("onnxruntime")


def measured(ms: float, verdict: str = "clean", target: Target = TARGET) -> Measurement:
    return Measurement(ms, ms, ms, ms, ms, 40, "measured", verdict, "wall", target, "w")


def certificate(said_ms: float, *medians: float, verdict: str = "clean", target: Target = TARGET) -> Certificate:
    said = Estimate("latency_ms", said_ms, "ms", source="predicted", target=str(TARGET))
    return Certificate(
        "S",
        "ab12cd34ef56",
        said,
        tuple(measured(ms, verdict, target) for ms in medians),
        PipelineTimes(1.0, 2.0, 0.5, 10),
    )


def test_holds_within_the_tolerance_or_the_spread() -> None:
    close = certificate(10.0, 10.1, 10.3, 10.2)
    assert (
        close.median_ms == 10.2 and close.difference == pytest.approx(0.02) and close.holds and close.verdict == "holds"
    )
    assert close.spread == pytest.approx(0.1 / 10.2)
    assert close.end_to_end_ms == pytest.approx(13.7)
    far = certificate(10.0, 12.0, 12.1)
    assert not far.holds and far.verdict == "differs"
    noisy = certificate(10.0, 9.0, 11.0, 13.0, verdict="contended")
    assert noisy.holds and noisy.verdict == "holds (contended)"


def test_another_target_is_not_compared() -> None:
    other = certificate(10.0, 30.0, target=Target("onnxruntime", threads=2))
    assert other.difference is None and other.holds and other.verdict == "new"


def test_the_table_and_the_file(tmp_path: Path) -> None:
    certificates = [certificate(10.0, 10.1, 10.3)]
    reporter = ConsoleReporter()
    with reporter.console.capture() as said:
        reporter.table(certificate_table(certificates))
    assert "10.000 ms (predicted)" in said.get() and "holds" in said.get() and "2.00 ms" in said.get()
    data = json.loads(write_certificates(tmp_path / "certificate.json", certificates).read_text())
    assert data[0]["verdict"] == "holds" and len(data[0]["measured"]) == 2 and data[0]["parts"]["suppress_ms"] == 0.5
    assert Measurement.from_dict(data[0]["measured"][0]) == measured(10.1)


def test_what_is_no_finished_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", str(tmp_path)]) == 2
    assert "is no run of nas search; expected a folder with run.json" in capsys.readouterr().err
    assert main(["certify", str(tmp_path), "--repeat", "0"]) == 2
    assert main(["certify", str(tmp_path / "none")]) == 2
