"""Files of others: only regular ones of bounded size are read, everything else is an error of one line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from search_spaces.foreign_files import UnreadableFile, open_file, read_bytes, read_text

LIMIT = 10


def test_a_file_up_to_the_bound_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    assert read_bytes(path, LIMIT) == b"0123456789" and read_text(str(path), LIMIT) == "0123456789"
    with open_file(path, LIMIT) as file:
        assert file.read(3) == b"012"
    (tmp_path / "link").symlink_to(path)
    assert read_bytes(tmp_path / "link", LIMIT) == b"0123456789"


def test_a_byte_order_mark_is_dropped_and_other_bytes_are_refused_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(path, LIMIT) == "abc"
    path.write_bytes(b"ab\xe9")
    with pytest.raises(UnreadableFile, match=r"a is not UTF-8 text \(byte 2: .*\); expected a text file"):
        read_text(path, LIMIT, "a text file")
    assert read_text(path, LIMIT, errors="surrogateescape") == "ab\udce9"


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder", "socket", "nothing", "in a file"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / "a"
    reason = {"pipe": "is a named pipe", "folder": "is a folder"}.get(kind, "is a device")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # the path of a socket has at most 108 bytes
        socket.socket(socket.AF_UNIX).bind("a")
        reason = "cannot be read"  # a socket is not even opened
    else:
        path = tmp_path / "b" if kind == "nothing" else Path(__file__) / "b"
        reason = "does not exist"
    for read in (read_bytes, read_text, open_file):
        with pytest.raises(UnreadableFile) as error:
            read(path, LIMIT, "a yaml")
        assert str(error.value).startswith(f"{path} {reason}") and str(error.value).endswith("; expected a yaml")
        assert error.value.missing == (reason == "does not exist") and "\n" not in str(error.value)


def test_large_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no space
    with pytest.raises(UnreadableFile, match="a is larger than 2 MiB"):
        read_bytes(path, 2 << 20)
    path.write_bytes(b"01234567890")
    with pytest.raises(UnreadableFile, match="a is larger than 10 bytes"):
        open_file(path, LIMIT)


def test_a_file_that_claims_to_be_empty_is_bounded_all_the_same() -> None:
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("no /proc")
    assert path.stat().st_size == 0
    with pytest.raises(UnreadableFile, match="larger than 10 bytes"):
        read_bytes(path, LIMIT)


def test_a_null_byte_in_a_path() -> None:
    with pytest.raises(UnreadableFile, match=r"is no path \(embedded null byte\)"):
        read_bytes("a\0b", LIMIT)
