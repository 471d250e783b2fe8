"""Videos with damaged frames, on a full disk, under odd names: every frame is read or counted as lost."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from nas.inference.video import Video, VideoWriter
from search_spaces.errors import InputError

ROOT = Path(__file__).parents[3]
SIZE = (160, 120)


def picture(index: int) -> NDArray[np.uint8]:
    """A frame that tells its number by the place of a bar."""
    frame = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    frame[:, 2 * index : 2 * index + 40] = (200, 120, 40)
    return frame


def clip(path: Path, frames: int = 60) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, SIZE)
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MPEG-4")
    for i in range(frames):
        writer.write(picture(i))
    writer.release()
    return path


def spoil(path: Path, *indices: int) -> None:
    """Overwrite frames of an mp4 by zeros (sizes are in its table stsz, frames behind the mark mdat)."""
    data = bytearray(path.read_bytes())
    table, start = data.find(b"stsz"), data.find(b"mdat") + 4
    (count,) = struct.unpack(">I", data[table + 12 : table + 16])
    sizes = struct.unpack(f">{count}I", data[table + 16 : table + 16 + 4 * count])
    for index in indices:
        first = start + sum(sizes[:index])
        data[first : first + sizes[index]] = bytes(sizes[index])
    path.write_bytes(data)


@pytest.mark.parametrize("lost", [(), (20,), (0,), (59,), (5, 6, 40), tuple(range(10, 50))])
def test_damaged_frames_are_passed_over_and_counted(lost: tuple[int, ...], tmp_path: Path) -> None:
    spoil(path := clip(tmp_path / "x.mp4"), *lost)
    video = Video(path)
    found = dict(video.numbered())
    assert len(found) + video.lost == video.count == 60 and video.lost == len(lost)
    assert len(list(video)) == len(found) and video.lost == len(lost)  # the same again
    if not lost:
        assert list(found) == list(range(60))


def test_a_video_that_is_cut_off_counts_what_is_missing(tmp_path: Path) -> None:
    path = clip(tmp_path / "x.mp4")
    data = path.read_bytes()
    head = data.find(b"mdat")
    half = head + (data.find(b"moov") - head) // 2
    path.write_bytes(data[:half] + bytes(data.find(b"moov") - 4 - half) + data[data.find(b"moov") - 4 :])
    video = Video(path)
    read = len(list(video))
    assert 10 < read < 50 and read + video.lost == 60


@pytest.mark.parametrize("name", [os.fsdecode(b"z\xe9.mp4"), "a b\n\x1b.mp4", "Straße.mp4"])
def test_any_name_can_be_read(name: str, tmp_path: Path) -> None:
    os.rename(clip(tmp_path / "x.mp4", 3), tmp_path / name)
    assert len(list(Video(tmp_path / name))) == 3


@pytest.mark.parametrize("name", [os.fsdecode(b"z\xe9"), "plain"])
def test_any_name_can_be_written(name: str, tmp_path: Path) -> None:
    with VideoWriter(tmp_path, name, 25) as writer:
        for i in range(3):
            writer.write(picture(i))
    assert [p.name for p in tmp_path.iterdir()] == [f"{name}.mp4"] and len(list(Video(writer.path))) == 3


def test_a_folder_with_any_name_is_written_to(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"z\xe9")
    folder.mkdir()
    with VideoWriter(folder, "x", 25) as writer:
        writer.write(picture(0))
    assert writer.path.exists()


@pytest.mark.parametrize("make", ["fifo", "zero", "folder"])
def test_only_regular_files_are_opened(make: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    {"fifo": os.mkfifo, "zero": lambda p: p.symlink_to("/dev/zero"), "folder": os.mkdir}[make](path)
    with pytest.raises(InputError, match="no such video"):
        Video(path)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from nas.inference.video import VideoWriter
from search_spaces.errors import InputError
from tests.nas.inference.test_video import noise
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    with VideoWriter(Path(sys.argv[2]), "x", 25) as writer:
        for i in range(30):
            writer.write(noise(i))
except InputError as error:
    print(error)
"""


def noise(index: int) -> NDArray[np.uint8]:
    return np.random.default_rng(index).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [1000, 100_000, 231_000])
def test_a_full_disk_is_noticed(limit: int, tmp_path: Path) -> None:
    clip(tmp_path / "probe.mp4", 1).unlink()
    command = [sys.executable, "-c", FULL_DISK, str(ROOT), str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "x.mp4: " in done.stdout and "of 30 frames can be read again; free some space" in done.stdout
    assert not list(tmp_path.iterdir())
