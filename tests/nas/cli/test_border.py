"""The command line and the operating system: closed pipes, full disks, other encodings, signals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.cli import resume_hint
from nas.cli.border import guarded, stop_signals

ROOT = Path(__file__).resolve().parents[3]
NAS = [sys.executable, "-m", "nas"]


def nas(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*NAS, *words], cwd=ROOT, text=True, check=False, **options)  # type: ignore[call-overload]


# output that cannot be written


@pytest.mark.parametrize("words", [["--help"], ["list"], ["search", "--help"]])
def test_a_closed_pipe_ends_silently(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = nas(*words, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode in (1, 128 + signal.SIGPIPE)  # rich ends with 1 by itself


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["list"], ["train", "--help"]])
def test_a_full_disk_is_one_line(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = nas(*words, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{'nas' if words == ['--help'] else 'nas ' + words[0]}: No space left on device"
    ]


def test_closed_standard_streams_are_no_traceback() -> None:
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *NAS, "list"], cwd=ROOT, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    "encoding, command",
    [
        ("ascii", "search --help"),
        ("ascii", "list"),
        ("cp1252", "search --help"),
    ],
)
def test_a_terminal_with_another_encoding(command: str, encoding: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "NAS_CACHE": str(tmp_path)}
    done = subprocess.run([*NAS, *command.split()], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout and done.stderr == b""


def test_a_reporter_prints_in_ascii() -> None:
    code = (
        "from rich.table import Table\n"
        "from nas.cli.border import guarded\n"
        "from nas.core.console_reporter import ConsoleReporter\n"
        "def work():\n"
        "    reporter, table = ConsoleReporter(), Table('µs')\n"
        "    table.add_row('± 2')\n"
        "    reporter.note('5 ms ± 2 %')\n"
        "    reporter.console.print(table)\n"
        "    return 0\n"
        "guarded(work, 'nas', str)"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.stderr == b"" and b"5 ms ? 2 %" in done.stdout and b"? 2" in done.stdout


def test_a_name_that_is_not_utf_8_can_be_printed(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert guarded(lambda: int(sys.stdout.write("z\udce9.jpg\n") < 0), "nas", str) == 0
    assert capsysbinary.readouterr().out == b"z?.jpg\n"


# errors of the operating system


@pytest.mark.parametrize(
    "error, line",
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "nas db: Permission denied: /x"),
        (OSError(errno.ENOSPC, "No space left on device"), "nas db: No space left on device"),
        (OSError("odd"), "nas db: odd"),
    ],
)
def test_an_error_of_the_operating_system_is_one_line(
    error: OSError, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert guarded(fail, "nas db", str) == 2
    assert capsys.readouterr().err == line + "\n"


def test_a_defect_keeps_its_traceback() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(fail, "nas", str)


# signals


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C as in the foreground: a shell ignores it for tests that run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_with_one_line_on_resuming(number: signal.Signals, tmp_path: Path) -> None:
    """In a process of its own: a signal may end the one that runs the tests."""
    code = f"""
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores Ctrl-C for commands in the background
import nas.cli, nas.cli.search
def run(args):
    os.kill(os.getpid(), {int(number)})
    time.sleep(5)
    return 0
nas.cli.search.run = run
before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)]
status = nas.cli.main(["search", "--data", "digits", "--out", {str(tmp_path)!r}])
assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)] == before
sys.exit(status)
"""
    how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    for hint in (
        "nothing was written yet; to begin again, run the same command",
        f"finished candidates are kept; to resume: nas search --resume {tmp_path}",
    ):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.stderr.split("\n") == ["", f"nas search: {how}; {hint}", ""]
        assert done.returncode == 128 + number
        (tmp_path / "run.json").write_text("{}")


def test_a_terminated_process_says_how_to_resume() -> None:
    code = (
        "import sys, time, nas.cli, nas.cli.train as t\n"
        "t.run = lambda args: (print('ready', flush=True), time.sleep(60))[0]\n"
        "sys.exit(nas.cli.main(['train', 'S.json', '--data', 'digits']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.strip() == "nas train: ended by SIGTERM; finished work is kept; to resume, run the same command again"


def test_a_command_in_the_background_ends_by_sigterm() -> None:
    """There Ctrl-C is ignored, and stays so."""
    code = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from nas.cli.border import guarded
def work():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    return 0
sys.exit(guarded(work, "nas train", str))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.strip() == "nas train: ended by SIGTERM"


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_child_ends_by_the_signal() -> None:
    """A worker process that inherits the handler must not turn the signal into Ctrl-C."""
    code = (
        "import multiprocessing, os, time\n"
        "from nas.cli.border import guarded\n"
        "def work():\n"
        "    child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "    child.start(); time.sleep(.5); child.terminate(); child.join(); print(child.exitcode); return 0\n"
        "guarded(work, 'nas', str)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGTERM}\n", "")


@pytest.mark.parametrize(
    "command, hint",
    [
        ("search --resume runs/a", "nas search --resume runs/a"),
        ("search --data x --out=runs/b", "nas search --resume runs/b"),
        ("search --estimate-cost --data x", ""),
        ("train S.json --data x", "same command"),
        ("list", ""),
        ("", ""),
    ],
)
def test_resume_hint(command: str, hint: str) -> None:
    found = resume_hint(command.split())
    assert hint in found and bool(hint) == bool(found)


def test_help_imports_nothing_heavy() -> None:
    """What makes it fast: informal measurement, no script, .06 to .09 s."""
    code = "import sys, nas.cli; nas.cli.main(['--help']); print(sorted({*HEAVY} & set(sys.modules)), file=sys.stderr)"
    heavy = ["torch", "numpy", "pandas", "optuna", "rich", "onnx", "sqlalchemy", "plotly", "cv2"]
    code = code.replace("HEAVY", repr(heavy))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
