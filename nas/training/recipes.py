"""Recipes by name: ``nas train … --recipe NAME``; any value is replaced by its option or by ``--set name=value``."""

from __future__ import annotations

from dataclasses import dataclass

from nas.training.recipe import Recipe
from search_spaces.registry import Registry


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe with a description: the command, the source of its values, and what was measured."""

    recipe: Recipe
    about: str


DEFAULT = NamedRecipe(
    Recipe(),
    "nas train S.json --data DATA. AdamW for data sets of thousands of images and short trainings. Measured on an H100 "
    "on digits@320 with 20 epochs (results/train_models_digits-320_*.json: YOLO11n 94.4 mAP); not run on COCO.",
)

SMALL = NamedRecipe(
    Recipe(epochs=120, batch_size=16, augmentation={"scale": (0.7, 1.3), "mosaic": 0.5, "close_mosaic": 30}),
    "nas train S.json --data DATA --recipe small. The default recipe for hundreds of images: many epochs, small batches, "
    "mosaic except in the last epochs. Measured from scratch on the 205 images of BCCD "
    "(results/train_models_bccd_CPU.json: YOLO11n at 320 px, 59.3 mAP on val, 88.8 and 90.1 mAP50 on test; 42 minutes "
    "on two CPU cores beside other work, in bf16); not run on a GPU.",
)

YOLO_NAS = NamedRecipe(
    Recipe(
        epochs=300,
        batch_size=256,
        lr=2e-4,
        weight_decay=1e-5,
        warmup_steps=1000,
        warmup_lr=1e-6,
        final_lr=0.1,
        ema_decay=0.9997,
        augmentation={
            "flip": 0.5,
            "affine": 1.0,
            "scale": (0.5, 1.5),
            "translate": 0.25,
            "degrees": 0.0,
            "shear": 0.0,
            "swap": 0.5,
            "hsv": 0.5,
            "hue": 18.0,
            "saturation": 30.0,
            "value": 30.0,
            "mosaic": 0.0,
            "mixup": 0.5,
        },
    ),
    "torchrun --nproc-per-node 8 -m nas train S.json --data coco.yaml --recipe yolo-nas --device cuda (one GPU: "
    "--batch-size 32 --accumulate 8). The values released for YOLO-NAS-S on COCO (super-gradients e0ccacf, "
    "coco2017_yolo_nas_s: 300 epochs, batch 32 on each of 8 GPUs), which its authors call a demonstration: the "
    "published weights also had Objects365, pseudo-labels and distillation. Gradient clipping is added. Accuracy not "
    "run.",
)

FAST = NamedRecipe(
    Recipe(epochs=10, lr=1e-2, cls_weight=2.0),
    "nas train S.json --data DATA --recipe fast --init supernet. The learning rate and class weight of nas quickstart, "
    "for a first result in minutes. Measured there from a supernet's weights (results/quickstart.json); not run "
    "elsewhere.",
)

FINETUNE = NamedRecipe(
    Recipe(
        epochs=100,
        batch_size=16,
        lr=5e-4,
        weight_decay=1e-4,
        warmup_steps=0,
        warmup_epochs=3.0,
        final_lr=0.1,
        ema_decay=0.9,
    ),
    "nas train S.json --data shop/ --recipe finetune --init supernet. For pre-trained weights and a small data set: the "
    "values released for YOLO-NAS-S on Roboflow-100 (super-gradients e0ccacf: 100 epochs, batch 16, 3 epochs of "
    "warm-up, EMA 0.9). Accuracy not run.",
)

RECIPES: Registry[NamedRecipe] = Registry(
    "nas.recipes",
    {
        "default": "nas.training.recipes:DEFAULT",
        "small": "nas.training.recipes:SMALL",
        "yolo-nas": "nas.training.recipes:YOLO_NAS",
        "fast": "nas.training.recipes:FAST",
        "finetune": "nas.training.recipes:FINETUNE",
    },
)
