"""Measuring on a board: a real sshd on the loopback interface, started by the test with its own keys and home folder.

Skipped where its programs are not installed (Debian: openssh-server, openssh-client). The board's Python has numpy and
ONNX Runtime only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import latency_db.core.profiler
import latency_db.remote.profiler
from benchmarks.sshd import Sshd, loopback_board, missing
from latency_db.core.device import DeviceFingerprint
from latency_db.core.profiler import Protocol, RuntimeFailure, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.remote.archive import code_archive
from latency_db.remote.board import Board
from latency_db.remote.bootstrap import FOLDER, RECEIVE
from latency_db.remote.profiler import RemoteProfiler, measuring_on
from latency_db.remote.ssh import COMMAND, Address, Backoff, ConnectionLost, Ssh
from latency_db.runtimes import open_profiler
from latency_db.timing.reference_model import reference_model_file
from nas.cli import main
from search_spaces.errors import InputError
from tests._models import write_model

TARGET = Target("onnxruntime")
SHORT = Protocol(warmup_runs=1, warmup_s=0.0, block=2, settle=0, min_rounds=2, max_rounds=2, max_s=1.0)
QUICK = Backoff(30.0, 0.1, 0.5)


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with loopback_board() as server:
        yield server


@pytest.fixture
def board(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    monkeypatch.setenv(COMMAND, sshd.command())
    with Board(sshd.address, QUICK) as opened:
        yield opened


# without a server


@pytest.mark.parametrize(
    "text, address",
    [
        ("ssh:pi@raspberrypi.local", Address("pi@raspberrypi.local")),
        ("ssh:jetson", Address("jetson")),
        ("ssh:pi@10.0.0.7:2222", Address("pi@10.0.0.7", 2222)),
        ("ssh:pi@host?python=~/nas/bin/python", Address("pi@host", None, "~/nas/bin/python")),
        ("ssh:[fe80::1]:22", Address("fe80::1", 22)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    if ":" not in address.host:
        assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["pi@host", "ssh:", "ssh:-oProxyCommand=x", "ssh:pi@host:0", "ssh:h:99999", "ssh:a b", "ssh:h;ls"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected ssh:user@host"):
        Address.parse(text)


def test_the_archive_holds_our_code_alone_and_is_reproducible() -> None:
    import io
    import zipfile

    digest, content = code_archive()
    code_archive.cache_clear()
    assert code_archive() == (digest, content)
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert "latency_db/remote/board_server.py" in names and {name.split("/")[0] for name in names} == {
        "search_spaces",
        "latency_db",
    }
    assert all(name.endswith(".py") for name in names)


def receive(home: Path, content: bytes, size: int, digest: str = "0" * 64, limit: int = 10**9) -> dict[str, str]:
    command = [sys.executable, "-c", RECEIVE, FOLDER, "models/x.onnx", str(size), digest, str(limit)]
    done = subprocess.run(
        command, input=content, capture_output=True, env={**os.environ, "HOME": str(home)}, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_an_interrupted_or_damaged_transfer_leaves_nothing(tmp_path: Path) -> None:
    assert receive(tmp_path, b"half", 8)["incomplete"] == "4 of 8 bytes arrived"
    assert "incomplete" in receive(tmp_path, b"whole", 5)  # another content than was announced
    assert not list((tmp_path / FOLDER / "models").iterdir())
    (tmp_path / FOLDER / "models").rmdir()
    (tmp_path / FOLDER / "models").write_text("a file in the way")
    assert "error" in receive(tmp_path, b"whole", 5)


def test_old_models_make_room(tmp_path: Path) -> None:
    import hashlib

    folder = tmp_path / FOLDER / "models"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.onnx").write_bytes(b"x" * 100)
        os.utime(folder / f"{i}.onnx", (i, i))
    content = b"y" * 100
    assert "path" in receive(tmp_path, content, 100, hashlib.sha256(content).hexdigest(), limit=250)
    assert sorted(p.name for p in folder.iterdir()) == ["2.onnx", "x.onnx"]


# on a board


def test_a_model_is_measured_on_the_board_and_sent_once(
    board: Board, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = Board.send

    def counted(self: Board, name: str, content: bytes, limit_bytes: int) -> None:
        sent.append(name)
        send(self, name, content, limit_bytes)

    monkeypatch.setattr(Board, "send", counted)
    model = tmp_path / "m.onnx"
    model.write_bytes(reference_model_file().read_bytes())
    with RemoteProfiler(board, TARGET, SHORT) as profiler, LatencyDB(tmp_path / "l.sqlite") as database:
        workload = Workload.of_file(model)
        found = database.measure_cached(profiler, workload)
        assert database.measure_cached(profiler, workload) == found == database.get(profiler.key(workload.key))
        again = database.measure_cached(profiler, workload, fresh=True)
    assert found.source == "measured" and found.median_ms > 0 and again.time >= found.time
    assert found.environment["measured_on"] == str(Address.parse(sshd.address))
    assert found.environment["device"] == DeviceFingerprint.read().to_dict()  # this machine is the board
    assert found.reference_ms is not None and "system_state" in found.environment
    assert [name.split("/")[0] for name in sent] == ["code", "latency_db", "models"]
    assert {p.name for p in sshd.home.iterdir()} == {".cache"}  # everything of ours is in one folder


def test_the_board_needs_no_onnx_sqlalchemy_or_torch(board: Board) -> None:
    text = "import importlib.util as u; print([n for n in ('onnx', 'sqlalchemy', 'torch') if u.find_spec(n)])"
    assert board._ssh.run(board._ssh.python(["-c", text])).strip() == b"[]"
    assert board.facts()["numpy"]


def test_the_check_verb(board: Board, sshd: Sshd, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "check", sshd.address]) == 0
    shown = capsys.readouterr().out
    assert "onnxruntime " in shown and "numpy" in shown and "free disk" in shown and "openvino not installed" in shown


def test_measure_on_a_board(
    board: Board, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency_db.core.profiler, "FINALIST", SHORT)
    model = tmp_path / "m.onnx"
    model.write_bytes(reference_model_file().read_bytes())
    database = tmp_path / "l.sqlite"
    assert main(["measure", str(model), "--on", sshd.address, "--latency-db", str(database), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["environment"]["measured_on"].startswith("ssh:")
    assert [m.to_dict() for m in LatencyDB(database).all()] == [record]


def test_profilers_are_opened_on_the_board_while_the_context_lasts(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, sshd.command())
    with measuring_on(sshd.address):
        assert isinstance(open_profiler(TARGET, SHORT), RemoteProfiler)
    with measuring_on(None), open_profiler(TARGET, SHORT) as profiler:
        assert not isinstance(profiler, RemoteProfiler)


def test_int8_is_quantized_here_with_the_scheme_for_the_board(board: Board, sshd: Sshd, tmp_path: Path) -> None:
    import numpy as np

    model = write_model(tmp_path / "m.onnx", 3)
    images = [np.random.default_rng(0).random((2, 16, 32, 32), dtype=np.float32)]
    with RemoteProfiler(board, Target("onnxruntime", "int8"), SHORT) as profiler:
        found = profiler.measure(Workload("w", model, calibration=lambda: images))
        assert (
            "int8 form" in profiler.key("w").version
            and profiler.key("w", TARGET).version == found.environment["runtime_version"]
        )
    sent = [path.read_bytes() for path in (sshd.home / FOLDER / "models").iterdir()]
    assert any(b"QuantizeLinear" in content for content in sent) and model.read_bytes() not in sent


def test_the_time_of_a_measurement_is_that_of_the_client(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board without a battery for its clock may be years off."""
    ask = Board.ask

    def late(self: Board, do: str, request: dict[str, object]) -> object:
        answer = ask(self, do, request)
        return {**answer, "time": "2199-01-01T00:00:00+00:00"} if do == "measure" else answer

    monkeypatch.setattr(Board, "ask", late)
    model = tmp_path / "m.onnx"
    model.write_bytes(reference_model_file().read_bytes())
    with RemoteProfiler(board, TARGET, SHORT) as profiler:
        assert profiler.measure(Workload("w", model)).time < "2199"


def test_a_board_whose_folder_was_emptied_gets_everything_again(board: Board, sshd: Sshd) -> None:
    assert board.ask("has", {"sha256": "1" * 64}) is False
    shutil.rmtree(sshd.home / FOLDER)
    board._end_process()
    assert board.ask("has", {"sha256": "1" * 64}) is False


def test_what_the_board_lacks_is_one_line(board: Board, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="on ssh:.*openvino not installed"):
        RemoteProfiler(board, Target("openvino"), SHORT)
    with pytest.raises(InputError, match="a runtime that measures"):
        RemoteProfiler(board, Target("recorded", device="x"), SHORT)
    garbage = tmp_path / "g.onnx"
    garbage.write_bytes(b"no model")
    with RemoteProfiler(board, TARGET, SHORT) as profiler, pytest.raises(InputError, match="on ssh:.*cannot load"):
        profiler.measure(Workload("w", garbage))


# connections


def test_an_unknown_or_changed_host_key_and_a_wrong_key_are_refused(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known, key, words in (
        ("no_hosts", "id", "host key is unknown or has changed"),
        ("changed_hosts", "id", "host key is unknown or has changed"),
        ("known_hosts", "stranger", "refuses to log in"),
    ):
        content = (sshd.folder / known).read_bytes()
        monkeypatch.setenv(COMMAND, sshd.command(known, key))
        with Board(sshd.address, QUICK) as board, pytest.raises(InputError, match=words) as error:
            board.facts()
        assert not isinstance(error.value, RuntimeFailure) and str(error.value).isprintable()
        assert (sshd.folder / known).read_bytes() == content


def test_a_lost_connection_is_made_again_with_a_line(
    board: Board, sshd: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    """The server stops and starts again, as in a reboot; the request that was lost is repeated."""
    assert board.ask("has", {"sha256": "0" * 64}) is False
    for process in sshd.processes:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    sshd.stop()
    starting = threading.Timer(1.5, sshd.start)
    starting.start()
    with caplog.at_level(logging.WARNING):
        assert board.ask("has", {"sha256": "0" * 64}) is False
    starting.join()
    assert any("next attempt in" in line for line in caplog.messages)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a port that refuses connections."""
    if shutil.which("ssh") is None:
        pytest.skip("no SSH client here: apt-get install openssh-client")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening
        monkeypatch.setenv(COMMAND, "ssh -F none")
        yield f"ssh:127.0.0.1:{free.getsockname()[1]}"


def test_waiting_for_a_board_ends(refusing: str, caplog: pytest.LogCaptureFixture) -> None:
    with Board(refusing, Backoff(0.5, 0.1, 0.2)) as board, pytest.raises(ConnectionLost, match="refused"):
        board._ssh.persistently(lambda: None)  # it was reached before
        board.facts()
    assert caplog.messages


def test_a_board_that_was_never_reached_is_an_error_at_once(refusing: str, caplog: pytest.LogCaptureFixture) -> None:
    with Board(refusing) as board, pytest.raises(InputError, match="refused; expected a machine that answers") as error:
        board.facts()
    assert not isinstance(error.value, RuntimeFailure) and not caplog.messages


def test_a_name_that_is_not_found_is_an_error_first_and_a_lost_network_later(refusing: str) -> None:
    message = "ssh: Could not resolve hostname pi: Temporary failure in name resolution"
    with contextlib.closing(Ssh(Address.parse(refusing))) as ssh:
        assert not isinstance(ssh.failure(255, message), RuntimeFailure)
        ssh.persistently(lambda: None)
        assert isinstance(ssh.failure(255, message), ConnectionLost)


@pytest.mark.parametrize(
    "facts, words",
    [
        ({"python": "3.9.2"}, "has Python 3.9.2; expected 3.10 or later"),
        ({"numpy": ""}, "has no numpy"),
        ({"free_mib": 3}, "3 MiB of free disk"),
    ],
)
def test_a_board_that_cannot_be_used(facts: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("no SSH client here: apt-get install openssh-client")
    usable = {
        "python": "3.11.2",
        "numpy": "1.26",
        "machine": "aarch64",
        "system": "Linux",
        "free_mib": 999,
        "folder": "",
        "executable": "",
    }
    monkeypatch.setattr(
        Ssh, "run", lambda self, command, content=b"", timeout_s=0.0: json.dumps({**usable, **facts}).encode()
    )
    with Board("ssh:pi@host", QUICK) as board, pytest.raises(InputError) as error:
        board.facts()
    assert words in str(error.value)
    monkeypatch.setattr(Ssh, "close", lambda self: None)


def test_a_search_measures_on_the_board(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short(RemoteProfiler):
        def __init__(self, board: Board, target: Target, protocol: Protocol = SHORT) -> None:
            super().__init__(board, target, SHORT)

    monkeypatch.setattr(latency_db.remote.profiler, "RemoteProfiler", Short)
    monkeypatch.setenv(COMMAND, sshd.command())
    database = tmp_path / "l.sqlite"
    options = (
        f"--space yolo-nano --fix image_size=96 --accuracy nwot --num-classes 3 --trials 2 --latency-db {database}"
    )
    assert main(["search", *options.split(), "--on", sshd.address, "--out", str(tmp_path / "run")]) == 0
    kept = LatencyDB(database).all()
    assert len(kept) >= 2 and all(m.environment["measured_on"] == str(Address.parse(sshd.address)) for m in kept)
    assert json.loads((tmp_path / "run" / "front.json").read_text())
