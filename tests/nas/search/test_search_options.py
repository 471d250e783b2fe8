"""Options of ``nas search`` become settings: the recipe of the supernet, defaults, and what was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.cli import main
from nas.search.plan import SearchPlan
from nas.search.run_supernet import sizes_without_training
from nas.search.settings import SearchSettings
from nas.supernet.supernet import Supernet
from nas.supernet.weights import save_supernet
from nas.training.recipe import Recipe
from nas.training.recipes import RECIPES
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[SearchSettings]:
    """Settings that reach the search, which does not begin."""
    found: list[SearchSettings] = []

    def stop(settings: SearchSettings, *more: object) -> None:
        found.append(settings)
        raise InputError("enough")

    monkeypatch.setattr("nas.search.run.search", stop)
    return found


def settings_of(kept: list[SearchSettings], tmp_path: Path, *options: str) -> SearchSettings:
    assert main(["search", "--data", "digits@96", "--out", str(tmp_path / "run"), *options]) == 2
    return kept[-1]


def test_without_options_the_settings_have_their_defaults(kept: list[SearchSettings], tmp_path: Path) -> None:
    assert settings_of(kept, tmp_path) == SearchSettings(data="digits@96")


def test_a_recipe_its_values_and_options_in_this_order(kept: list[SearchSettings], tmp_path: Path) -> None:
    settings = settings_of(
        kept,
        tmp_path,
        "--recipe",
        "small",
        "--set",
        "lr=3e-3",
        "--set",
        "mosaic=0.3",
        "--set",
        "epochs=7",
        "--lr",
        "4e-3",
    )
    recipe = SearchPlan.parse(settings).recipe
    small = RECIPES["small"].recipe
    assert (recipe.epochs, recipe.lr, recipe.batch_size) == (7, 4e-3, small.batch_size)
    assert recipe.augmentation == {**small.augmentation, "mosaic": 0.3}
    assert settings_of(kept, tmp_path, "--recipe", "default").recipe == {}
    assert settings_of(kept, tmp_path, "--largest-first", "0.7", "--epochs", "2").recipe == {
        "largest_first": 0.7,
        "epochs": 2,
    }
    assert SearchPlan.parse(settings_of(kept, tmp_path, "--seed", "5")).recipe == Recipe(seed=5)


def test_a_trained_supernet_brings_its_space(
    kept: list[SearchSettings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = SPACES["yolo-nano"].restrict({"image_size": (96, 128), "stage1_block": ("c2f",), "width": (8, 16)})
    path = save_supernet(tmp_path / "supernet.safetensors", Supernet(space, 10), tuple("0123456789"), {})
    settings = settings_of(kept, tmp_path, "--supernet", str(path))
    assert settings.space == "yolo-nano" and SearchPlan.parse(settings).space.choices == space.choices
    smaller = settings_of(kept, tmp_path, "--supernet", str(path), "--fix", "image_size=96", "--space", "yolo-nano")
    assert smaller.fixed == {**settings.fixed, "image_size": (96,)}
    assert main(["search", "--data", "digits@96", "--out", "x", "--supernet", str(path), "--space", "yolo-nas"]) == 2
    assert "yolo-nano, the space of" in capsys.readouterr().err


def test_sizes_that_a_supernet_was_not_trained_at_are_named(tmp_path: Path) -> None:
    space = SPACES["yolo-nano"].restrict({"image_size": (96, 128, 160), "stage1_block": ("c2f",), "width": (8, 16)})
    supernet = Supernet(space, 10)
    plan = SearchPlan.parse(SearchSettings(data="digits@96", fixed={"image_size": (96, 128, 160)}))

    def note(record: dict[str, object]) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
        return sizes_without_training(plan, save_supernet(path, supernet, tuple("0123456789"), record))

    assert note({"image_sizes": [96, 128, 160]}) == ""
    assert "trained at image size 96, 128: the mAP of candidates at 160 is under" in note({"image_sizes": [96, 128]})
    assert "trained at image size 160: the mAP of candidates at 96, 128 is under" in note({})  # an earlier file
    for wrong in (320, ["a"], [None]):
        with pytest.raises(InputError, match="image size"):
            note({"image_sizes": wrong})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--recipe", "smal"), ("'smal'", "did you mean 'small'")),
        (("--set", "lr"), ("'lr'", "NAME=VALUE")),
        (("--set", "colour=1"), ("'colour'",)),
        (("--epochs", "0"), ("epochs = 0", "positive")),
    ],
)
def test_what_is_no_recipe_is_one_line(
    options: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--data", "digits@96", "--out", str(tmp_path / "run"), *options]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_every_option_reaches_its_setting(kept: list[SearchSettings], tmp_path: Path) -> None:
    options = (
        "--trials 7 --sampler tpe --eval-images 9 --no-augment --no-early-stop --stop auto --limit 40 --processes 2"
    )
    settings = settings_of(kept, tmp_path, *options.split(), "--max", "params=1M", "--bound", "macs<=3e7")
    found = (settings.trials, settings.sampler, settings.eval_images, settings.augment, settings.early_stop)
    assert found == (7, "tpe", 9, False, False)
    assert (settings.stop, settings.limit, settings.processes) == ("auto", 40, 2)
    assert settings.bounds == ("macs<=3e7", "params<=1M")
