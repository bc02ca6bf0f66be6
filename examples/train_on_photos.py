"""Train the attention of EfficientNet-Lite0 on a folder of photographs, and compare it.

    python examples/train_on_photos.py TRAIN_FOLDER --val VAL_FOLDER --out photos-output

Leaves in the output folder: a table (table.md, table.json), a picture (comparison.png), and for
each training its attention file, history and state. Run it again with --resume to continue after
an interruption. Nothing is downloaded; the labels are the classifier's own predictions.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from contextlib import ExitStack
from pathlib import Path

import click
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from torch.utils.data import DataLoader

from learnable_cam_plugin import LearnableCAM, LearnableCAMTrainer
from learnable_cam_plugin.atomic import atomic_path
from learnable_cam_plugin.classifier import predict
from learnable_cam_plugin.comparison import (
    class_maps,
    compare_methods,
    markdown_table,
    open_methods,
    picture,
)
from learnable_cam_plugin.data import PhotoFolder
from learnable_cam_plugin.pretrained import efficientnet_lite0
from learnable_cam_plugin.training import EveryThreshold, LCAMRecipe

# What the head reads; every-threshold takes a finer grid beside it.
LAST, FINER = "features", "features.blocks.10"
# recipe -> its title, itself, the layers that it reads
RECIPES: dict[str, tuple[str, EveryThreshold | LCAMRecipe, list[str]]] = {
    "every-threshold": ("LearnableCAM", EveryThreshold(), [FINER, LAST]),
    "l-cam-img": ("L-CAM-Img", LCAMRecipe("l-cam-img", mask="image"), [LAST]),
    "l-cam-fm": ("L-CAM-Fm", LCAMRecipe("l-cam-fm", mask="features"), [LAST]),
}


@click.command(help=__doc__)
@click.argument("train_folder", type=click.Path(path_type=Path))
@click.option("--val", "val_folder", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("photos-output"))
@click.option(
    "--recipe",
    "recipes",
    type=click.Choice(list(RECIPES)),
    multiple=True,
    default=["every-threshold"],
    show_default=True,
)
@click.option("--start", "starts", multiple=True, default=["head"], show_default=True)
@click.option("--learning-rate", type=float, help="instead of the recipe's")
@click.option("--epochs", default=6, show_default=True)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--resume", is_flag=True, help="continue trainings found in the output folder")
def main(
    train_folder: Path,
    val_folder: Path,
    out: Path,
    recipes: tuple[str, ...],
    starts: tuple[str, ...],
    learning_rate: float | None,
    epochs: int,
    batch_size: int,
    seed: int,
    resume: bool,
) -> None:
    model, normalization = efficientnet_lite0()
    layers = [model.get_submodule(LAST)]
    train = PhotoFolder(train_folder, normalization, train=True)
    val = PhotoFolder(val_folder, normalization)
    print(f"{len(train)} photographs to train on, {len(val)} others to score on")
    trained, cost = {}, {}
    for recipe, start in itertools.product(recipes, starts):
        title, chosen, names = RECIPES[recipe]
        if learning_rate:
            chosen = dataclasses.replace(chosen, learning_rate=learning_rate)
        trainer = LearnableCAMTrainer(
            model,
            names,
            recipe=chosen,
            start=start,
            normalization=normalization,
            epochs=epochs,
            seed=seed,
            output_dir=out / f"{recipe}-{start}",
        )
        loader = DataLoader(train, batch_size, shuffle=True, drop_last=True)
        attention = trainer.fit(loader, resume=resume)
        name = f"{title}, {start} start"
        trained[name] = LearnableCAM(model, layers, attention=attention)
        cost[name] = {
            "epochs": epochs,
            "training s": round(sum(row["seconds"] for row in trainer.history)),
        }
    # Only now: while they exist, the library's classes keep the maps of every forward pass.
    methods = {
        "Grad-CAM": GradCAM(model, layers),
        "Grad-CAM++": GradCAMPlusPlus(model, layers),
        "classic CAM (head start, untrained)": LearnableCAM(model, layers, attention="head"),
        **trained,
    }
    began = time.perf_counter()
    with ExitStack() as stack:
        methods = open_methods(stack, methods)
        rows = compare_methods(model, methods, DataLoader(val, batch_size), normalization)
        shown = torch.stack([val[i] for i in range(0, len(val), max(1, len(val) // 6))][:6])
        p, classes = predict(model, shown)
        maps = {name: class_maps(cam, shown, classes) for name, cam in methods.items()}
    rows = [{**row, **cost.get(row["method"], {"epochs": 0, "training s": 0})} for row in rows]
    table = markdown_table(rows)
    titles = [f"class {int(c)}\np = {float(q):.2f}" for c, q in zip(classes, p, strict=True)]
    picture(out / "comparison.png", shown, titles, maps, normalization)
    with atomic_path(out / "table.md") as path:
        path.write_text(table + "\n")
    with atomic_path(out / "table.json") as path:
        path.write_text(
            json.dumps({"rows": rows, "seed": seed, "threads": torch.get_num_threads()})
        )
    print(table)
    print(f"scored in {time.perf_counter() - began:.0f} s; see {out}/comparison.png")


if __name__ == "__main__":
    main()
