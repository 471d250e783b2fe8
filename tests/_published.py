"""Networks of the original packages with weights that follow from their names, and what these compute.

``python -m tests._published NAME…`` writes the records that ``tests/nas/pretrained`` compares with, in an environment
that has the packages (development only, torchvision may be absent): ultralytics, yolov5, yolov6detect, modern-yolonas,
yolov7detect, and for YOLOv9 a clone of MultimediaTechLab/YOLO on the path, with omegaconf and einops.
``pytest -m interop`` compares with whichever of them are there. The packages are used as they are; nothing of them is
copied.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

RECORDED = Path(__file__).parent / "nas" / "pretrained" / "recorded"
CLASSES = 5
SIDE = 96
DTYPE = [torch.float32]
"""Of the image."""
EVERY = 97
"""Every so many-th number of the outputs is recorded."""


def value_of(name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor of a name: small numbers that follow from the name alone, variances positive."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return 0.5 + noise.abs()
    if name.endswith("running_mean"):
        return 0.1 * noise
    if len(shape) >= 2:
        return noise * (1.5 / max(1, noise[0].numel())) ** 0.5
    return 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise


def image(dtype: torch.dtype | None = None) -> Tensor:
    """(1, 3, SIDE, SIDE) in 0..1."""
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).to(dtype or DTYPE[-1])


def settle(module: nn.Module, outputs: Callable[[nn.Module], object]) -> None:
    """Set the statistics of every BatchNorm by the image, as a training would: activations keep their size, and no
    output is saturated."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    module.train()
    with torch.no_grad(), suppress(Exception):  # in training mode some heads have other outputs
        outputs(module)
    module.eval()


def fill(module: nn.Module, fixed: Callable[[str], bool]) -> nn.Module:
    """Set every tensor but constants (``fixed``) to the value of its name."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and not fixed(name):
                tensor.copy_(value_of(name, tuple(tensor.shape)))
    return module.eval()


def sampled(boxes: Tensor, scores: Tensor) -> dict[str, list[float]]:
    """Every :data:`EVERY`-th number of boxes (A, 4), xyxy in pixels, and scores (A, classes)."""
    return {"boxes": boxes.flatten()[::EVERY].tolist(), "scores": scores.flatten()[::EVERY].tolist()}


def corners(boxes: Tensor) -> Tensor:
    """(A, 4) of centres and sizes as xyxy."""
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)


class _Anything(type):
    """A class of which every attribute is such a class, and which can be called and inherited from."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _anything(name)


def _anything(name: str) -> Any:
    return _Anything(name, (), {"__init__": lambda self, *a, **k: None, "__call__": lambda self, *a, **k: self})


class _Absent(types.ModuleType):
    """Stands for a library that the packages import and these networks do not use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _anything(name)


class _Absences:
    """Finds every module of the named libraries that is not installed."""

    def __init__(self, names: set[str]) -> None:
        self._names = {n for n in names if find_spec(n) is None or n == "torchvision"}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self._names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        module = _Absent(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        module.__version__ = "0.0"  # type: ignore[attr-defined]


ABSENT = {
    *("torchvision", "addict", "tensorboard", "huggingface_hub", "seaborn", "IPython", "git", "fire", "boto3", "sahi"),
    *("roboflow", "albumentations", "lightning", "supervision", "typer", "ipywidgets", "pandas", "thop", "onnxsim"),
    *("matplotlib", "requests", "hydra", "loguru", "wandb"),
}


def prepare() -> None:
    """Let the packages be imported where a library that these networks do not use is absent."""
    os.environ.setdefault("YOLO_CONFIG_DIR", "/tmp/ultralytics")
    sys.meta_path.append(_Absences(ABSENT))
    resources = types.ModuleType("pkg_resources")
    resources.parse_version = import_module("packaging.version").parse  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", resources)


def ultralytics(name: str) -> tuple[nn.Module, Callable[[nn.Module], tuple[Tensor, Tensor]]]:
    from ultralytics.nn.tasks import DetectionModel  # type: ignore[import-not-found]

    model = DetectionModel(f"{name.removesuffix('u') if 'v5' in name else name}.yaml", nc=CLASSES, verbose=False)

    def outputs(module: nn.Module) -> tuple[Tensor, Tensor]:
        head = module.model[-1]  # type: ignore[index]
        if name.startswith("yolo26"):
            found = module(image())[1]["one2one"]
            head.shape = None
            dense = head._inference(found)[0] if hasattr(head, "_inference") else None
            assert dense is not None
            return corners(dense[:4].T), dense[4:].T
        dense = module(image())[0][0]
        return corners(dense[:4].T), dense[4:].T

    return fill(model, lambda n: "dfl" in n), outputs


def yolov5(name: str) -> tuple[nn.Module, Callable[[nn.Module], tuple[Tensor, Tensor]]]:
    import yolov5 as package  # type: ignore[import-not-found]
    from yolov5.models.yolo import Model  # type: ignore[import-not-found]

    model = Model(str(Path(package.__file__).parent / "models" / f"{name}.yaml"), nc=CLASSES)

    def outputs(module: nn.Module) -> tuple[Tensor, Tensor]:
        dense = module(image())[0][0]
        return corners(dense[:, :4]), dense[:, 4:5] * dense[:, 5:]

    return fill(model, lambda n: "anchor" in n), outputs


def yolov6(name: str) -> tuple[nn.Module, Callable[[nn.Module], tuple[Tensor, Tensor]]]:
    import yolov6 as package  # type: ignore[import-not-found]
    from yolov6.models.yolo import build_model  # type: ignore[import-not-found]

    found: dict[str, Any] = {}
    exec((Path(package.__file__).parent / "configs" / f"{name}.py").read_text(), found)  # noqa: S102 - the package's own

    class Config(dict):  # type: ignore[type-arg]
        def __getattr__(self, key: str) -> Any:
            if key not in self:
                raise AttributeError(key)
            return Config(self[key]) if isinstance(self[key], dict) else self[key]

    config = Config(found)
    config.setdefault("training_mode", "repvgg")
    model = build_model(config, CLASSES, torch.device("cpu"), fuse_ab=False, distill_ns=False)

    def outputs(module: nn.Module) -> tuple[Tensor, Tensor]:
        dense = module(image())
        dense = (dense[0] if isinstance(dense, list | tuple) else dense)[0]
        return corners(dense[:, :4]), dense[:, 5:]

    return fill(model, lambda n: "proj" in n), outputs


def yolo_nas(name: str) -> tuple[nn.Module, Callable[[nn.Module], tuple[Tensor, Tensor]]]:
    from modern_yolonas import model as package  # type: ignore[import-not-found]

    model = package.YoloNAS.from_config(name.replace("-", "_"), num_classes=CLASSES)

    def outputs(module: nn.Module) -> tuple[Tensor, Tensor]:
        found = module(image())
        while not isinstance(found[0], Tensor):
            found = found[0]
        return found[0][0], found[1][0]

    return fill(model, lambda n: "proj" in n or "id_tensor" in n), outputs


class _Layers(list):  # type: ignore[type-arg]
    """Layers in the form that the package yolov7detect is configured with: [inputs, repeats, module, arguments].

    The package has no configuration of a network; this one is written from the paper's figures."""

    def add(self, source: Any, module: str, *arguments: Any) -> int:
        self.append([source, 1, module, list(arguments)])
        return len(self) - 1

    def conv(self, source: int, out: int, kernel: int = 1, stride: int = 1) -> int:
        return self.add(source, "Conv", out, kernel, stride)

    def elan(self, hidden: int, out: int, inner: int, taken: list[int]) -> int:
        self.conv(-1, hidden)
        self.conv(-2, hidden)
        for _ in range(4):
            self.conv(-1, inner, 3)
        self.add(taken, "Concat", 1)
        return self.conv(-1, out)

    def halve(self, out: int, *others: int) -> int:
        self.add(-1, "MP")
        self.conv(-1, out)
        self.conv(-3, out)
        self.conv(-1, out, 3, 2)
        return self.add([-1, -3, *others], "Concat", 1)

    def up(self, out: int, side: int) -> int:
        self.conv(-1, out)
        self.add(-1, "nn.Upsample", None, 2, "nearest")
        self.conv(side, out)
        return self.add([-1, -2], "Concat", 1)


def yolov7(name: str) -> tuple[nn.Module, Callable[[nn.Module], tuple[Tensor, Tensor]]]:
    from yolov7.models.yolo import Model  # type: ignore[import-not-found]

    body, some, every = _Layers(), [-1, -3, -5, -6], [-1, -2, -3, -4, -5, -6]
    body.conv(-1, 32, 3)
    body.conv(-1, 64, 3, 2)
    body.conv(-1, 64, 3)
    body.conv(-1, 128, 3, 2)
    body.elan(64, 256, 64, some)
    body.halve(128)
    c3 = body.elan(128, 512, 128, some)
    body.halve(256)
    c4 = body.elan(256, 1024, 256, some)
    body.halve(512)
    body.elan(256, 1024, 256, some)
    top = body.add(-1, "SPPCSPC", 512)
    body.up(256, c4)
    middle = body.elan(256, 256, 128, every)
    body.up(128, c3)
    fine = body.elan(128, 128, 64, every)
    body.halve(128, middle)
    p4 = body.elan(256, 256, 128, every)
    body.halve(256, top)
    p5 = body.elan(512, 512, 256, every)
    ends = [body.add(p, "RepConv", c, 3, 1) for p, c in ((fine, 256), (p4, 512), (p5, 1024))]
    body.add(ends, "IDetect", "nc", "anchors")
    anchors = [[12, 16, 19, 36, 40, 28], [36, 75, 76, 55, 72, 146], [142, 110, 192, 243, 459, 401]]
    config = {"nc": CLASSES, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": anchors}
    model = Model({**config, "backbone": list(body), "head": []}, ch=3, nc=CLASSES)

    def outputs(module: nn.Module) -> tuple[Tensor, Tensor]:
        dense = module(image())[0][0]
        return corners(dense[:, :4]), dense[:, 4:5] * dense[:, 5:]

    return fill(model, lambda n: "anchor" in n), outputs


def yolov9(name: str) -> tuple[nn.Module, Callable[[nn.Module], tuple[Tensor, Tensor]]]:
    from omegaconf import OmegaConf  # type: ignore[import-not-found]
    from yolo.model.yolo import create_model  # type: ignore[import-not-found]

    folder = Path(sys.modules["yolo"].__path__[0])
    config = OmegaConf.load(folder / "config" / "model" / f"v9-{name[-1]}.yaml")
    model = create_model(config, False, CLASSES).model

    def outputs(module: nn.Module) -> tuple[Tensor, Tensor]:
        found: dict[int, Any] = {0: image()}
        layer: Any
        for index, layer in enumerate(module.children(), start=1):
            source = layer.source
            given = [found[i] for i in source] if isinstance(source, list) else found[source]
            found[-1] = found[index] = layer(given)
            if layer.tags == "Main":
                break
        boxes, scores = [], []
        for classes, _, sides in found[-1]:  # (1, K, h, w) and (1, 4, h, w) in strides
            stride = SIDE // classes.shape[-1]
            y, x = torch.meshgrid(torch.arange(classes.shape[-2]), torch.arange(classes.shape[-1]), indexing="ij")
            points = (torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride
            left_top, right_bottom = (sides[0].flatten(1).T * stride).chunk(2, 1)
            boxes.append(torch.cat([points - left_top, points + right_bottom], 1))
            scores.append(classes[0].flatten(1).T.sigmoid())
        return torch.cat(boxes), torch.cat(scores)

    return fill(model, lambda n: "anc2vec" in n), outputs


SIZES = "nsmlx"
ORIGINALS: dict[str, tuple[str, Callable[[str], Any]]] = {
    **{
        f"{family}{size}": ("ultralytics", ultralytics)
        for family in ("yolov8", "yolo11", "yolo12", "yolo26")
        for size in SIZES
    },
    **{f"yolov5{size}u": ("ultralytics", ultralytics) for size in SIZES},
    **{f"yolov5{size}": ("yolov5", yolov5) for size in SIZES},
    **{f"yolov6{size}": ("yolov6detect", yolov6) for size in "nsml"},
    **{f"yolo-nas-{size}": ("modern-yolonas", yolo_nas) for size in "sml"},
    "yolov7": ("yolov7detect", yolov7),
    **{f"yolov9{size}": ("YOLO", yolov9) for size in "smc"},
}
"""Reference -> the package that has it, and how it is built there."""


def state_of(record: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a record: names and shapes as recorded, values by their names."""
    for line in record["tensors"]:
        name, _, shape = line.partition(" ")
        sides = tuple(int(s) for s in shape.split("x")) if shape else ()
        yield name, value_of(name, sides)


MODULES = {
    **{name: (name,) for name in ("ultralytics", "yolov5")},
    "yolov6detect": ("yolov6",),
    "modern-yolonas": ("modern_yolonas",),
    "yolov7detect": ("yolov7",),
    "YOLO": ("yolo", "omegaconf", "einops"),
}
"""Package -> the modules that it needs."""


def installed(name: str) -> bool:
    """Whether the package of a reference can be imported here."""
    return all(find_spec(module) is not None for module in MODULES[ORIGINALS[name][0]])


def version_of(package: str) -> str:
    """Its version; a clone that is on the path has none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "clone"


def record(name: str, folder: Path = RECORDED, weights: bool = False) -> None:
    """Write ``<name>.json``, with ``weights`` also the checkpoint ``<name>.pt``.

    Outputs are computed in double precision, in which rounding hides nothing and processors agree.
    """
    package, build = ORIGINALS[name]
    model, outputs = build(name)
    if weights:
        settle(model, outputs)
        torch.save({"model": model.state_dict()}, folder / f"{name}.pt")
    DTYPE.append(torch.float64)
    model.double()
    with torch.no_grad():
        boxes, scores = outputs(model)
    tensors = [
        f"{n} {'x'.join(map(str, t.shape))}".rstrip() for n, t in model.state_dict().items() if t.is_floating_point()
    ]
    content = {
        "package": f"{package} {version_of(package)}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "outputs": sampled(boxes, scores),
        "constants": {n: t.tolist() for n, t in model.state_dict().items() if n.endswith(("anchors", "anchor_grid"))},
        "tensors": tensors,
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=0) + "\n")


if __name__ == "__main__":
    prepare()
    arguments = sys.argv[1:]
    where = Path(arguments.pop(arguments.index("--out") + 1)) if "--out" in arguments else None
    for wanted in [a for a in arguments if a != "--out"] or ORIGINALS:
        record(wanted, where or RECORDED, weights=where is not None)
        print("recorded", wanted)  # noqa: T201
