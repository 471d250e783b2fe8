"""``nas list``."""

from __future__ import annotations

import argparse

EXAMPLES = """\
  nas list
  nas list yolo-nas      all choices of one space"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("space", nargs="?", help="show the choices of this space")


def run(args: argparse.Namespace) -> int:
    """List what is registered."""
    from latency_db.runtimes import RUNTIMES
    from nas.data.formats import FORMATS
    from nas.estimators import ESTIMATORS
    from nas.search.samplers import SAMPLERS
    from nas.training.loggers import LOGGERS
    from nas.training.recipe import OPTIMIZERS
    from nas.training.recipes import RECIPES
    from search_spaces.blocks import BLOCKS
    from search_spaces.heads import HEADS
    from search_spaces.necks import NECKS
    from search_spaces.spaces import SPACES

    if args.space:
        space = SPACES[args.space]
        print(f"{space.name} version {space.version}: {space.size:.3g} architectures")
        for choice in space.choices:
            print(f"  {choice.name:<15} {', '.join(map(str, choice.values))}")
        return 0
    for name in SPACES:
        print(f"space {name}: {SPACES[name].size:.3g} architectures, {len(SPACES[name].choices)} choices")
    for what, registry in (
        ("blocks", BLOCKS),
        ("necks", NECKS),
        ("heads", HEADS),
        ("runtimes", RUNTIMES),
        ("estimators", ESTIMATORS),
        ("samplers", SAMPLERS),
        ("datasets", FORMATS),
        ("optimizers", OPTIMIZERS),
        ("loggers", LOGGERS),
    ):
        print(f"{what}: {', '.join(registry)}")
    for name in RECIPES:
        print(f"recipe {name}: {RECIPES[name].about}")
    return 0
