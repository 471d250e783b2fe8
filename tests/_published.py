"""Networks of the original packages with weights that follow from their names, and what these compute.

``python -m tests._published NAME…`` writes the records that ``tests/nas/pretrained`` compares with, in an environment
that has the packages (ultralytics, yolov5, yolov6detect, modern-yolonas; development only, torchvision may be absent).
The packages are used as they are; nothing of them is copied.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

RECORDED = Path(__file__).parent / "nas" / "pretrained" / "recorded"
CLASSES = 5
SIDE = 96
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


def image() -> Tensor:
    """(1, 3, SIDE, SIDE) in 0..1."""
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


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


def yolov9(name: str) -> tuple[nn.Module, Callable[[nn.Module], tuple[Tensor, Tensor]]]:
    from omegaconf import OmegaConf  # type: ignore[import-not-found]
    from yolo.model.yolo import create_model  # type: ignore[import-not-found]

    folder = Path(sys.modules["yolo"].__path__[0])
    config = OmegaConf.load(folder / "config" / "model" / f"v9-{name[-1]}.yaml")
    model = create_model(config, False, CLASSES).model

    def outputs(module: nn.Module) -> tuple[Tensor, Tensor]:
        found: dict[int, Any] = {0: image()}
        for index, layer in enumerate(module, start=1):  # type: ignore[arg-type]
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


ORIGINALS: dict[str, tuple[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("yolov5nu", "yolov8n", "yolo11n", "yolo12n", "yolo26n"), ("ultralytics", ultralytics)),
    **dict.fromkeys(("yolov8m", "yolo11m", "yolo12l", "yolo26m"), ("ultralytics", ultralytics)),
    "yolov5n": ("yolov5", yolov5),
    **dict.fromkeys(("yolov6n", "yolov6m", "yolov6l"), ("yolov6detect", yolov6)),
    "yolo-nas-s": ("modern-yolonas", yolo_nas),
    "yolo-nas-m": ("modern-yolonas", yolo_nas),
    **dict.fromkeys(("yolov9s", "yolov9m", "yolov9c"), ("YOLO", yolov9)),
}
"""Reference -> the package that has it, and how it is built there."""


def state_of(record: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a record: names and shapes as recorded, values by their names."""
    for line in record["tensors"]:
        name, _, shape = line.partition(" ")
        sides = tuple(int(s) for s in shape.split("x")) if shape else ()
        yield name, value_of(name, sides)


def record(name: str) -> None:
    package, build = ORIGINALS[name]
    model, outputs = build(name)
    with torch.no_grad():
        boxes, scores = outputs(model)
    tensors = [
        f"{n} {'x'.join(map(str, t.shape))}".rstrip() for n, t in model.state_dict().items() if t.is_floating_point()
    ]
    content = {
        "package": f"{package} {version(package)}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "outputs": sampled(boxes, scores),
        "constants": {n: t.tolist() for n, t in model.state_dict().items() if n.endswith(("anchors", "anchor_grid"))},
        "tensors": tensors,
    }
    RECORDED.mkdir(exist_ok=True)
    (RECORDED / f"{name}.json").write_text(json.dumps(content, indent=0) + "\n")


if __name__ == "__main__":
    prepare()
    for wanted in sys.argv[1:] or ORIGINALS:
        record(wanted)
        print("recorded", wanted)  # noqa: T201
