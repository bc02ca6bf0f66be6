"""What training costs, and what its settings cost: two studies on EfficientNet-Lite0.

    python benchmarks/study.py efficiency --train TRAIN --val VAL --out DIR
    python benchmarks/study.py dials --train TRAIN --val VAL --val OTHER --out DIR

`efficiency` trains the paper's recipe to its end and this package's for one epoch, side by side,
scored after every epoch. `dials` trains variants of both recipes, one setting changed at a time,
and scores them on every folder of --val: do settings found on one set carry over? Both go on after
an interruption, and leave a table (.md, .json) in --out.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: import the folder's modules as a package's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import click
import torch
from torch.utils.data import DataLoader

from benchmarks.attentions import start_of
from benchmarks.protocol import load_protocol
from learnable_cam_plugin import RECIPES, LearnableCAM, LearnableCAMTrainer
from learnable_cam_plugin.checkpoint import atomic_path
from learnable_cam_plugin.comparison import compare, markdown_table
from learnable_cam_plugin.photos import PhotoFolder, efficientnet_lite0
from learnable_cam_plugin.recipes import AnyRecipe, EveryThreshold, Recipe

NETWORK = load_protocol("photos").networks["efficientnet-lite0"]
PAPER, OURS = RECIPES["l-cam-img"], RECIPES["every-threshold"]


def variants() -> dict[str, tuple[AnyRecipe, str]]:
    """Name -> recipe, start: each setting that a user may turn, one at a time."""
    assert isinstance(PAPER, Recipe)
    assert isinstance(OURS, EveryThreshold)
    found: dict[str, tuple[AnyRecipe, str]] = {"every-threshold": (OURS, "head")}
    for setting, values in {
        "misplaced": (0.0, OURS.misplaced / 2, OURS.misplaced * 2),
        "whole": (0.15, 0.6),
    }.items():
        for value in values:
            changed = dataclasses.replace(OURS, **{setting: value})  # type: ignore[arg-type]
            found[f"every-threshold, {setting} {value:g}"] = (changed, "head")
    found["l-cam-img"] = (PAPER, "head")
    for setting, values in {
        "average_variation": (1.0, 4.0),
        "total_variation": (0.0, 0.05),
        "power": (0.15, 0.6),
    }.items():
        for value in values:
            loss = dataclasses.replace(PAPER.loss, **{setting: value})
            changed_paper = dataclasses.replace(PAPER, loss=loss)
            found[f"l-cam-img, {setting} {value:g}"] = (changed_paper, "head")
    return found


class Study:
    """EfficientNet-Lite0, the photographs to train on, and where the results go."""

    def __init__(self, train: Path, out: Path, seed: int) -> None:
        self.model, self.normalization = efficientnet_lite0()
        self.photos = PhotoFolder(train, self.normalization, train=True)
        self.out, self.seed = out, seed

    def train(
        self, name: str, recipe: AnyRecipe, start: str, epochs: int, val: Path | None = None
    ) -> LearnableCAMTrainer:
        """A training, gone on with where it was; its attention is in `self.attention`."""
        fused = isinstance(recipe, EveryThreshold)
        layers = NETWORK.stages[-2:] if fused else (NETWORK.layer,)
        first = torch.stack([self.photos[0]])
        trainer = LearnableCAMTrainer(
            self.model,
            layers,
            recipe=recipe,
            start=start_of(start, self.model, layers, first, self.seed),
            normalization=self.normalization,
            epochs=epochs,
            seed=self.seed,
            output_dir=self.out / "trainings" / name.replace(", ", "-").replace(" ", "-"),
        )
        loader = DataLoader(self.photos, 16, shuffle=True, drop_last=True)
        watched = None if val is None else DataLoader(PhotoFolder(val, self.normalization), 16)
        self.attention = trainer.fit(loader, watched, resume=True)
        return trainer

    def write(self, name: str, rows: list[dict[str, Any]], note: str) -> None:
        """The rows as name.json and name.md, with the command."""
        command = " ".join(["python", "benchmarks/study.py", *sys.argv[1:]])
        text = f"`{command}`\n\n{note}\n\n{markdown_table(rows)}\n"
        for suffix, content in {
            "md": text,
            "json": json.dumps({"command": command, "note": note, "rows": rows}, indent=1),
        }.items():
            with atomic_path(self.out / f"{name}.{suffix}") as path:
                path.write_text(content)
        print(text)


@click.group(help=__doc__)
def main() -> None:
    """Two studies."""


_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@main.command()
@click.option("--train", type=_FOLDER, required=True)
@click.option("--val", type=_FOLDER, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--epochs", default=6, show_default=True, help="of the paper's recipe")
@click.option("--seed", default=0, show_default=True)
def efficiency(train: Path, val: Path, out: Path, epochs: int, seed: int) -> None:
    """The images that each recipe sees until it reaches the paper recipe's final score."""
    study, rows = Study(train, out, seed), []
    for name, recipe, start, length in (
        ("l-cam-img, random start", PAPER, "random", epochs),
        ("every-threshold", OURS, "head", 1),
    ):
        history = study.train(name, recipe, start, length, val).history
        seen = 0
        for row in history:
            seen += int(row["images"])
            rows.append(
                {
                    "training": name,
                    "epoch": row["epoch"],
                    "images seen": seen,
                    "AD 100%": row["val_average_drop"],
                    "IC 100%": row["val_increase_in_confidence"],
                }
            )
    study.write("efficiency", rows, f"Scored on {val.parent.name}/{val.name}, seed {seed}.")


@main.command()
@click.option("--train", type=_FOLDER, required=True)
@click.option("--val", "vals", type=_FOLDER, required=True, multiple=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--epochs", default=2, show_default=True)
@click.option("--only", help="variants whose name starts so")
@click.option("--seed", default=0, show_default=True)
def dials(
    train: Path, vals: tuple[Path, ...], out: Path, epochs: int, only: str | None, seed: int
) -> None:
    """Scores of variants, one setting changed at a time, on every folder of --val."""
    study = Study(train, out, seed)
    rows: list[Mapping[str, Any]] = []
    for name, (recipe, start) in variants().items():
        if only and not name.startswith(only):
            continue
        kept = out / "scores" / f"{name}.json"
        if not kept.exists():
            study.train(name, recipe, start, epochs)
            scores = [_scores(study, val) for val in vals]
            with atomic_path(kept) as path:
                path.write_text(json.dumps([{"recipe": name, **row} for row in scores]))
        rows += json.loads(kept.read_text())
    study.write("dials", [dict(r) for r in rows], f"{epochs} epochs each, seed {seed}.")


def _scores(study: Study, val: Path) -> dict[str, Any]:
    cam = LearnableCAM(study.model, [study.model.features], attention=study.attention)  # type: ignore[list-item]
    batches = DataLoader(PhotoFolder(val, study.normalization), 16)
    (row,) = compare(study.model, {"": cam}, batches, study.normalization)
    del row["method"], row["ms"]
    return {"scored on": f"{val.parent.name}/{val.name}", **row}


if __name__ == "__main__":
    main()
