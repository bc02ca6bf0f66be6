"""Ablations: what training costs, and what its settings cost.

\b
    python -m benchmarks ablations efficiency --train TRAIN --val VAL --out DIR
    python -m benchmarks ablations settings --train TRAIN --val VAL --val OTHER --out DIR
    python -m benchmarks ablations settings --out DIR     # on drawn shapes, nothing to have at hand

`efficiency` trains the paper's recipe to its end and this package's for one epoch, side by side,
scored after every epoch. `settings` trains variants of both recipes, one setting changed at a
time, and scores them on every set: do settings found on one carry over? Photographs are explained
on EfficientNet-Lite0, drawn shapes on a small network. Both go on after an interruption, and leave
a table (.md, .json) in --out.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from learnable_cam_plugin import AttentionMechanism, LearnableCAM, LearnableCAMTrainer
from learnable_cam_plugin.comparison import compare_methods, markdown_table
from learnable_cam_plugin.data import NORMALIZATION, PhotoFolder, draw_images
from learnable_cam_plugin.masking import Normalization
from learnable_cam_plugin.pretrained import efficientnet_lite0
from learnable_cam_plugin.training import EveryThreshold, LCAMRecipe, TrainingRecipe

from ..protocol import load_protocol
from ..report.schema import leave, read_json, write_json
from ..sources import shapes_classifier

OURS, PAPER = EveryThreshold(), LCAMRecipe("l-cam-img", mask="image")
# each setting that a user may turn, and the values that it is turned to
OUR_SETTINGS = {"misplaced": (0.0, 3.0), "area": (0.3, 1.0), "whole": (0.15, 0.6)}
PAPER_SETTINGS = {
    "average_variation": (1.0, 4.0),
    "total_variation": (0.0, 0.05),
    "power": (0.15, 0.6),
}


@dataclass(frozen=True)
class Variant:
    """A recipe, and whether its attention reads the last stage but one too."""

    recipe: TrainingRecipe
    fused: bool


def ours(**setting: Any) -> Variant:
    """This package's recipe, with a setting changed."""
    return Variant(dataclasses.replace(OURS, **setting), fused=True)


def paper(**setting: Any) -> Variant:
    """The paper's recipe, with a setting of its loss changed."""
    loss = dataclasses.replace(PAPER.loss, **setting)
    return Variant(dataclasses.replace(PAPER, loss=loss), fused=False)


def variants() -> dict[str, Variant]:
    """Name -> variant: both recipes, and each with one setting changed at a time."""
    found = {}
    for make, turned in ((ours, OUR_SETTINGS), (paper, PAPER_SETTINGS)):
        name = make().recipe.name
        found[name] = make()
        for setting, values in turned.items():
            found |= {f"{name}, {setting} {v:g}": make(**{setting: v}) for v in values}
    return found


@dataclass(frozen=True)
class Setup:
    """A classifier and two of its layers, the one that the head reads last; the images to train on;
    the sets to score on, as batches for `compare_methods`; and where the results go."""

    model: nn.Module
    normalization: Normalization
    layers: tuple[str, ...]
    images: Dataset
    batch_size: int
    scored: Mapping[str, Iterable[Any]]
    out: Path
    seed: int

    def train(
        self, name: str, variant: Variant, start: str, epochs: int, val: Iterable[Any] | None = None
    ) -> tuple[AttentionMechanism, list[dict[str, float]]]:
        """The attention and the history of a training, gone on with where it was."""
        trainer = LearnableCAMTrainer(
            self.model,
            self.layers if variant.fused else self.layers[-1:],
            recipe=variant.recipe,
            start=start,
            normalization=self.normalization,
            epochs=epochs,
            seed=self.seed,
            output_dir=self.out / "trainings" / name.replace(", ", "-").replace(" ", "-"),
            device="cpu",
        )
        loader = DataLoader(self.images, self.batch_size, shuffle=True, drop_last=True)
        return trainer.fit(loader, val, resume=True), trainer.history

    def rows(self, attention: AttentionMechanism) -> list[dict[str, Any]]:
        """The table's columns on every set."""
        cam = LearnableCAM(self.model, self.layers[-1:], attention=attention)
        rows = []
        for name, batches in self.scored.items():
            (row,) = compare_methods(self.model, {"": cam}, batches, self.normalization)
            del row["method"], row["ms"]
            rows.append({"scored on": name, **row})
        return rows


def photographs(train: Path, vals: Iterable[Path], out: Path, seed: int) -> Setup:
    """Folders of photographs, and EfficientNet-Lite0."""
    model, normalization = efficientnet_lite0()
    layers = load_protocol("photos").networks["efficientnet-lite0"].two_layers
    images = PhotoFolder(train, normalization, train=True)
    sets = {f"{val.parent.name}/{val.name}": PhotoFolder(val, normalization) for val in vals}
    scored = {name: DataLoader(photos, 16) for name, photos in sets.items()}
    return Setup(model, normalization, layers, images, 16, scored, out, seed)


def drawn_shapes(out: Path, seed: int) -> Setup:
    """Drawn shapes, and a small network like the quick start's, trained here."""
    model = shapes_classifier(out / "classifier.safetensors", seed)
    layers = load_protocol("synthetic").networks["small-network"].two_layers
    images = TensorDataset(draw_images(2000, seed).images)
    test = {"drawn shapes": list(draw_images(300, seed + 10_000).batches())}
    return Setup(model, NORMALIZATION, layers, images, 32, test, out, seed)


@click.group(help=__doc__)
def main() -> None:
    """Two ablations."""


_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_OUT = click.option("--out", type=click.Path(path_type=Path), required=True)
_SEED = click.option("--seed", default=0, show_default=True)


@main.command()
@click.option("--train", type=_FOLDER, required=True)
@click.option("--val", type=_FOLDER, required=True)
@_OUT
@click.option("--epochs", default=6, show_default=True, help="of the paper's recipe")
@_SEED
def efficiency(train: Path, val: Path, out: Path, epochs: int, seed: int) -> None:
    """The images that each recipe sees until it reaches the paper recipe's final score."""
    setup, rows = photographs(train, [val], out, seed), []
    (watched,) = setup.scored.values()
    for name, variant, start, length in (
        ("l-cam-img, random start", paper(), "random", epochs),
        ("every-threshold", ours(), "head", 1),
    ):
        seen = 0
        for row in setup.train(name, variant, start, length, watched)[1]:
            seen += int(row["images"])
            done = {"training": name, "epoch": int(row["epoch"]), "images seen": seen}
            drop, rise = row["val_average_drop"], row["val_increase_in_confidence"]
            rows.append({**done, "AD 100%": drop, "IC 100%": rise})
    note = f"Scored on {val.parent.name}/{val.name}, seed {seed}."
    leave(out, "efficiency", [note, markdown_table(rows)], rows=rows)


@main.command()
@click.option("--train", type=_FOLDER, help="of photographs; drawn shapes unless given")
@click.option("--val", "vals", type=_FOLDER, multiple=True)
@_OUT
@click.option("--epochs", default=2, show_default=True)
@click.option("--only", multiple=True, help='names or patterns of variants, as "l-cam-img*"')
@_SEED
def settings(
    train: Path | None, vals: Sequence[Path], out: Path, epochs: int, only: Sequence[str], seed: int
) -> None:
    """Scores of variants, one setting changed at a time, on every folder of --val."""
    setup = drawn_shapes(out, seed) if train is None else photographs(train, vals, out, seed)
    rows: list[dict[str, Any]] = []
    for name, variant in variants().items():
        if only and not any(fnmatch(name, pattern) for pattern in only):
            continue
        kept = out / "scores" / f"{name}.json"
        if not kept.exists():
            write_json(kept, setup.rows(setup.train(name, variant, "head", epochs)[0]))
        rows += [{"recipe": name, **row} for row in read_json(kept)]
    note = f"Epochs of each: {epochs}. Seed {seed}."
    leave(out, "settings", [note, markdown_table(rows)], rows=rows)
