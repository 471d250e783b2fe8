"""A search that is refused before any work leaves nothing; one with work keeps it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from latency_db.database.connection import parse_url
from nas.core.reporter import Reporter
from nas.search.accuracy_cache import accuracy_url, check_accuracies
from nas.search.refused import removed_if_refused
from nas.search.run import search
from nas.search.settings import SearchSettings
from search_spaces.errors import InputError


def foreign(path: Path) -> Path:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title)")
    return path


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.mark.parametrize("made", [False, True], ids=["a new folder", "a folder of the user's"])
@pytest.mark.parametrize(
    "case, said",
    [
        ("foreign latencies", "another program's database"),
        ("text as latencies", "no database"),
        ("foreign accuracies", "another program's database (tables songs)"),
        ("no place for the study", "unable to open database file"),
        ("more workers than a machine has room for", "workers"),
    ],
)
def test_a_refused_search_leaves_nothing(case: str, said: str, made: bool, tmp_path: Path) -> None:
    settings = SearchSettings(accuracy="nwot", trials=1, latency_db=str(tmp_path / "latency.sqlite"))
    if case == "foreign latencies":
        foreign(tmp_path / "latency.sqlite")
    elif case == "text as latencies":
        (tmp_path / "latency.sqlite").write_text("median,ms\n")
    elif case == "foreign accuracies":
        foreign(tmp_path / "latency-accuracies.sqlite")
        settings = SearchSettings(**{**vars(settings), "accuracy": "supernet", "data": "digits@96:train=40,val=4"})
    elif case == "no place for the study":
        settings = SearchSettings(**{**vars(settings), "storage": "sqlite:////proc/none/study.sqlite"})
    else:
        settings = SearchSettings(**{**vars(settings), "workers": "99999"})
    folder = tmp_path / "run"
    if made:
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    before = {name: content for name, content in listing(tmp_path).items() if "latency.sqlite" not in name}
    with pytest.raises(InputError, match=r".") as caught:
        search(settings, folder, Reporter())
    assert said in str(caught.value)
    left = {name: content for name, content in listing(tmp_path).items() if "latency.sqlite" not in name}
    assert left == before


def test_work_stays(tmp_path: Path) -> None:
    settings = SearchSettings()

    def refused(folder: Path, names: tuple[str, ...], begin: bool) -> set[str]:
        with pytest.raises(InputError), removed_if_refused(folder, settings) as started:
            folder.mkdir(exist_ok=True)
            for name in names:
                (folder / name).write_text("x")
            if begin:
                started()
            raise InputError("no")
        return {p.name for p in folder.iterdir()} if folder.exists() else set()

    opened = ("run.json", "study.journal", ".study.journal.driver")
    assert refused(tmp_path / "nothing", opened, begin=False) == set()
    assert not (tmp_path / "nothing").exists()
    assert refused(tmp_path / "trials", opened, begin=True) == set(opened)
    trained = (*opened, "supernet.checkpoint")
    assert refused(tmp_path / "trained", trained, begin=False) == set(trained)
    assert refused(tmp_path / "trained", opened, begin=False) == set(trained)  # a resumed run


def test_a_database_of_another_program_gets_no_table_of_accuracies(tmp_path: Path) -> None:
    file = foreign(tmp_path / "music-accuracies.sqlite")
    before = file.read_bytes()
    with pytest.raises(InputError, match="another program's database"):
        check_accuracies(accuracy_url(str(tmp_path / "music.sqlite")))
    assert file.read_bytes() == before and not list(tmp_path.glob("*-wal"))
    check_accuracies(parse_url(tmp_path / "new.sqlite"))
