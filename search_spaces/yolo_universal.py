"""One space in which YOLOv8-, YOLOv6-, YOLO11- and YOLO-NAS-like networks are points: the block of every stage is
chosen among those families'.

Free are the kind, width, hidden width and depth of each stage, what follows the backbone (attention among it), the
neck, the head, the activation. Widths are absolute, so that no two points mean one network. :data:`LIKE` names the
published networks that it holds exactly: the same operations, parameters and multiply-accumulates.
``yolo-universal-nano`` is the same for CPUs, with the families' nets of an eighth and a quarter of their width.
"""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.architecture import Architecture, Value
from search_spaces.graph import Cell, Graph, Layout, Node, Option, backbone, node
from search_spaces.necks import NECKS
from search_spaces.scaling import image_size
from search_spaces.space import Choice, SearchSpace
from search_spaces.yolo_nas import multiple_of_8

BLOCKS = ("c2f", "c3", "c3k2", "c3k2-deep", "qsp", "qci", "bepc3", "csp")
NECK_BLOCKS = ("c2f", "c3", "c3k2", "c3k2-deep", "qsp", "bepc3", "csp")
WITH_SHORTCUT = ("c2f", "c3")  # these families' PAN has it switched off
STAGES = NECK = (1, 2, 3, 4)


def _graph(a: Architecture) -> Graph:
    act = str(a["act"])

    def number(name: str) -> int:
        return int(a[name])

    def down(out: int) -> Cell:
        geometry: dict[str, Option] = {"kernel": 3} if a["down"] == "conv" else {}
        return str(a["down"]), {"out": out, "stride": 2, "act": act, **geometry}

    def block(kind: Value, group: str, out: int, **more: Option) -> Cell:
        return str(kind), {
            "out": out,
            "hidden": number(f"{group}_hidden"),
            "depth": number(f"{group}_depth"),
            "act": act,
            **more,
        }

    def stage(i: int) -> tuple[Cell, Cell]:
        return down(number(f"stage{i}_down")), block(a[f"stage{i}_block"], f"stage{i}", number(f"stage{i}_out"))

    def neck_cell(i: int, out: int) -> Cell:
        kind = str(a["neck_up" if i <= 2 else f"neck{i}_block"])
        return block(
            kind, f"neck{i}", out, **({"shortcut": False} if a["neck"] == "pan" and kind in WITH_SHORTCUT else {})
        )

    p3, p4, p5 = (number(f"p{i}") for i in (3, 4, 5))
    nodes = [*backbone(down(number("stem")), [stage(i) for i in STAGES])]
    nodes += _top(str(a["top"]), number("stage4_out"), act)
    cells = tuple(neck_cell(i, out) for i, out in zip(NECK, (p4, p3, p4, p5), strict=True))
    c2, c3, c4, c5 = "stage1_block", "stage2_block", "stage3_block", nodes[-1].name
    if a["neck"] == "pan":
        neck = NECKS["pan"]((c3, c4, c5), top=number("stage4_out"), cells=cells, act=act)
    else:
        neck = NECKS["pan-c2"]((c2, c3, c4, c5), cells=cells, act=act)
    levels = tuple(f"{'pan' if a['neck'] == 'pan' else 'neck'}{i}_block" for i in (2, 3, 4))
    return Graph(
        (*nodes, *neck), _head(str(a["head"]), float(a["head_scale"]), levels, (p3, p4, p5), act), a.image_size
    )


def _top(kind: str, out: int, act: str) -> list[Node]:
    """What follows the backbone: pooling, and attention over half of the channels."""
    if kind == "spp":
        return [node("spp", "spp", "stage4_block", out=out, act=act)]
    nodes = [node("sppf", "sppf", "stage4_block", out=out, act=act)]
    if kind == "sppf-psa":
        nodes.append(node("psa", "c2psa", "sppf", out=out, hidden=out // 2, depth=1, act=act))
    return nodes


def _head(kind: str, scale: float, levels: tuple[str, ...], widths: Layout, act: str) -> Node:
    if kind == "dfl":
        return node("head", "dfl", levels, widths=tuple(multiple_of_8(w * scale) for w in widths), act=act)
    return node("head", kind, levels, scale=scale, act=act)


Table = Mapping[str, tuple[Value, ...]]


def _choices(widths: Table) -> tuple[Choice, ...]:
    """All choices in their order; ``widths`` gives the values of those that are numbers."""

    def kinds(name: str, values: tuple[str, ...]) -> Choice:
        return Choice(name, values, ordered=False)

    def numbers(*names: str) -> list[Choice]:
        return [Choice(name, widths[name]) for name in names]

    choices = [kinds("act", ("relu", "silu")), kinds("down", ("conv", "qarepvgg", "repvgg")), *numbers("stem")]
    for i in STAGES:
        choices += [
            kinds(f"stage{i}_block", BLOCKS),
            *numbers(*(f"stage{i}_{what}" for what in ("down", "out", "hidden", "depth"))),
        ]
    choices += [kinds("top", ("spp", "sppf", "sppf-psa")), kinds("neck", ("pan", "pan-c2"))]
    choices += [
        *(kinds(name, NECK_BLOCKS) for name in ("neck_up", "neck3_block", "neck4_block")),
        *numbers("p3", "p4", "p5"),
    ]
    for i in NECK:
        choices += numbers(f"neck{i}_hidden", f"neck{i}_depth")
    return (*choices, kinds("head", ("dfl", "decoupled", "decoupled-light")), *numbers("head_scale"), image_size())


def _table(
    stem: Layout,
    stages: tuple[tuple[Layout, Layout, Layout, Layout], ...],
    p: tuple[Layout, ...],
    necks: tuple[Layout, ...],
) -> Table:
    """Stages give (down, out, hidden, depth), ``p`` the output widths of the levels, ``necks`` the hidden widths of
    the neck's stages."""
    table: dict[str, tuple[Value, ...]] = {"stem": stem, "head_scale": (0.667, 1.0, 1.333)}
    for i, values in zip(STAGES, stages, strict=True):
        table |= {f"stage{i}_{what}": v for what, v in zip(("down", "out", "hidden", "depth"), values, strict=True)}
    table |= {f"p{i}": v for i, v in zip((3, 4, 5), p, strict=True)}
    for i, hidden in zip(NECK, necks, strict=True):
        table |= {f"neck{i}_hidden": hidden, f"neck{i}_depth": (1, 2, 3, 4)}
    return table


FULL = _table(
    (16, 32, 48, 64),
    (
        ((32, 64, 96, 128), (32, 64, 96, 128, 256), (16, 32, 48, 64, 96), (1, 2, 3)),
        ((64, 128, 192, 256), (64, 128, 192, 256, 512), (32, 64, 96, 128, 192), (1, 2, 3, 4, 5, 6)),
        ((128, 256, 384, 512), (128, 256, 384, 512), (64, 96, 128, 192, 256), (1, 2, 3, 4, 5, 6)),
        ((256, 512, 768), (256, 512, 768), (128, 192, 256, 384, 512), (1, 2, 3)),
    ),
    ((64, 96, 128, 192, 256), (128, 192, 256, 384, 512), (256, 384, 512)),
    ((64, 96, 128, 192, 256), (32, 48, 64, 96, 128), (64, 96, 128, 192, 256), (64, 128, 192, 256)),
)
NANO = _table(
    (8, 16, 24),
    (
        ((16, 24, 32), (16, 24, 32, 64), (8, 16, 24), (1, 2)),
        ((32, 48, 64), (32, 48, 64, 128), (16, 24, 32), (1, 2, 3)),
        ((64, 96, 128), (64, 96, 128), (32, 48, 64), (1, 2, 3)),
        ((64, 128, 256), (64, 128, 256), (32, 64, 128), (1, 2)),
    ),
    ((32, 48, 64), (64, 96, 128), (64, 128, 256)),
    ((24, 32, 48, 64), (16, 24, 32), (24, 32, 48, 64), (32, 48, 64, 128)),
)
YOLO_UNIVERSAL = SearchSpace(name="yolo-universal", version=1, choices=_choices(FULL), graph=_graph)
YOLO_UNIVERSAL_NANO = SearchSpace(name="yolo-universal-nano", version=1, choices=_choices(NANO), graph=_graph)

Stage = tuple[str, int, int, int, int]


def _point(
    space: SearchSpace,
    look: tuple[str, str, int],
    stages: tuple[Stage, Stage, Stage, Stage],
    top: str,
    neck: tuple[str, str, str, str],
    p: Layout,
    hidden: Layout,
    depth: Layout,
    head: tuple[str, float],
) -> Architecture:
    """``look``: activation, downsampling, stem. Stages: (block, down, out, hidden, depth). ``neck``: its kind, the
    block of its way up, those of the two stages down."""
    values: dict[str, Value] = dict(zip(("act", "down", "stem"), look, strict=True))
    for i, stage in zip(STAGES, stages, strict=True):
        names = (f"stage{i}_{what}" for what in ("block", "down", "out", "hidden", "depth"))
        values.update(zip(names, stage, strict=True))
    values |= {
        "top": top,
        **dict(zip(("neck", "neck_up", "neck3_block", "neck4_block", "p3", "p4", "p5"), (*neck, *p), strict=True)),
    }
    for i in NECK:
        values |= {f"neck{i}_hidden": hidden[i - 1], f"neck{i}_depth": depth[i - 1]}
    return space.architecture(**values, head=head[0], head_scale=head[1], image_size=640)


def _yolov8(space: SearchSpace, c: int, top: int, depth: int) -> Architecture:
    """Of stem width ``c``, ``top`` channels in the last stage, and one, two or three units a stage."""
    outs = (2 * c, 4 * c, 8 * c, top)
    stages = tuple(("c2f", out, out, out // 2, depth * n) for out, n in zip(outs, (1, 2, 2, 1), strict=True))
    p = (4 * c, 8 * c, top)
    hidden = (4 * c, 2 * c, 4 * c, top // 2)
    return _point(
        space,
        ("silu", "conv", c),
        stages,  # type: ignore[arg-type]
        "sppf",
        ("pan", "c2f", "c2f", "c2f"),
        p,
        hidden,
        (depth,) * 4,
        ("decoupled", 1.0),
    )


def _yolo11(space: SearchSpace, c: int, top: int, everywhere: bool) -> Architecture:
    """Of stem width ``c`` and ``top`` channels in the last stage; n, s and m have one unit a stage."""
    shallow = "c3k2-deep" if everywhere else "c3k2"
    rows = (
        (shallow, 2 * c, 4 * c, c),
        (shallow, 4 * c, 8 * c, 2 * c),
        ("c3k2-deep", 8 * c, 8 * c, 4 * c),
        ("c3k2-deep", top, top, top // 2),
    )
    stages = tuple((*row, 1) for row in rows)
    hidden = (4 * c, 2 * c, 4 * c, top // 2)
    neck, p = ("pan", shallow, shallow, "c3k2-deep"), (4 * c, 8 * c, top)
    return _point(space, ("silu", "conv", c), stages, "sppf-psa", neck, p, hidden, (1,) * 4, ("decoupled-light", 1.0))  # type: ignore[arg-type]


def _yolo_nas(kinds: tuple[str, ...], hidden: Layout, necks: tuple[tuple[int, int], ...], scale: float) -> Architecture:
    rows = zip(kinds, (96, 192, 384, 768), hidden, (2, 3, 5, 2), strict=True)
    stages = tuple((kind, out, out, h, depth) for kind, out, h, depth in rows)
    depths, widths = zip(*necks, strict=True)
    look, neck, p = ("relu", "qarepvgg", 48), ("pan-c2", "qsp", "csp", "csp"), (96, 192, 384)
    return _point(YOLO_UNIVERSAL, look, stages, "spp", neck, p, widths, depths, ("dfl", scale))  # type: ignore[arg-type]


LIKE = {
    "yolov8n": _yolov8(YOLO_UNIVERSAL, 16, 256, 1),
    "yolov8s": _yolov8(YOLO_UNIVERSAL, 32, 512, 1),
    "yolov8l": _yolov8(YOLO_UNIVERSAL, 64, 512, 3),
    "yolo11n": _yolo11(YOLO_UNIVERSAL, 16, 256, False),
    "yolo11s": _yolo11(YOLO_UNIVERSAL, 32, 512, False),
    "yolo11m": _yolo11(YOLO_UNIVERSAL, 64, 512, True),
    "yolo-nas-s": _yolo_nas(("qsp",) * 4, (32, 64, 96, 192), ((2, 64), (2, 48), (2, 64), (2, 64)), 0.667),
    "yolo-nas-m": _yolo_nas(
        ("qci", "qci", "qci", "qsp"), (64, 128, 256, 384), ((2, 192), (3, 64), (2, 192), (3, 256)), 1.0
    ),
    "yolo-nas-l": _yolo_nas(("qci",) * 4, (96, 128, 256, 512), ((4, 128), (4, 128), (4, 128), (4, 256)), 1.333),
}
"""Published networks as points of ``yolo-universal``."""
LIKE_NANO = {
    "yolov8n": _yolov8(YOLO_UNIVERSAL_NANO, 16, 256, 1),
    "yolo11n": _yolo11(YOLO_UNIVERSAL_NANO, 16, 256, False),
}
"""Those that ``yolo-universal-nano`` holds."""
