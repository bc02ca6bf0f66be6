"""Which architectures can be explained, without training and trained.

\b
    python -m benchmarks architectures --out results/architectures

Classifiers of torchvision, timm and transformers, small and with seeded weights, each explained in
four ways: `LearnableCAM(model)` with nothing else, the attention that `condition` makes, and the
recipes every-threshold and l-cam-img after two steps. The layers are found, not named. "works" is a
map of the images' shape, finite, in [0, 1], and constant for no image; else the reason stands
there. Leaves architectures.json and architectures.md in --out.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from learnable_cam_plugin import (
    FrozenClassifier,
    LearnableCAM,
    LearnableCAMTrainer,
    Normalization,
    condition,
)
from learnable_cam_plugin.comparison import markdown_table

from ..architectures import ARCHITECTURES, Architecture
from ..report.schema import leave

NORMALIZATION = Normalization(0.5, 0.5)  # the images are in [-1, 1]
WORKS, LINEARISED = "works", "works; head linearised on the batch"
RECIPES = ("every-threshold", "l-cam-img")


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="architectures, as 'timm:resnet10t'; all unless given")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(only: Sequence[str], out: Path) -> None:
    if unknown := sorted(set(only) - set(ARCHITECTURES)):
        raise click.UsageError(f"there is no {unknown}; there are {list(ARCHITECTURES)}")
    try:
        import timm
        import transformers
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{error.name} is missing: pip install 'learnable-cam-plugin[{error.name}]'"
        ) from error
    began = time.perf_counter()
    chosen = {name: ARCHITECTURES[name] for name in only or ARCHITECTURES}
    rows = [row_of(name, architecture) for name, architecture in tqdm(chosen.items())]
    libraries = (torch, timm, transformers)
    versions = {library.__name__: library.__version__ for library in libraries}
    about = f"{', '.join(f'{name} {v}' for name, v in versions.items())}; {len(rows)} architectures"
    parts = [markdown_table(rows), f"{about}, {time.perf_counter() - began:.0f} s on the CPU"]
    leave(out, "architectures", parts, rows=rows, versions=versions)


def row_of(name: str, architecture: Architecture) -> dict[str, str]:
    """An architecture's row: the layers that are found, and a cell a way of explaining."""
    library, _, short = name.partition(":")
    row = {"library": library, "architecture": short}
    try:
        model, images = architecture.classifier(), architecture.images(4)
        layers = list(FrozenClassifier.found(model, images[:2]).layers)
    except Exception as error:  # whatever a library raises is what its cell says
        return {**row, "layers found": reason(error)}
    row["layers found"] = ", ".join(f"`{layer}`" for layer in layers)
    row["no training"] = cell(lambda: LearnableCAM(model)(images[:2]), architecture.side)
    row["conditioned"] = cell(lambda: conditioned(model, layers, images), architecture.side)
    for recipe in RECIPES:
        row[recipe] = cell(partial(trained, model, layers, images, recipe), architecture.side)
    return row


def conditioned(model: nn.Module, layers: list[str], images: Tensor) -> np.ndarray:
    """The maps of two images, (2, side, side), before any training."""
    attention = condition(model, layers, images[:2])
    return LearnableCAM(model, attention=attention)(images[:2])


def trained(model: nn.Module, layers: list[str], images: Tensor, recipe: str) -> np.ndarray:
    """The maps of two images after two steps, of two images each."""
    trainer = LearnableCAMTrainer(
        model,
        layers,
        recipe=recipe,
        normalization=NORMALIZATION,
        epochs=1,
        device="cpu",
        progress=False,
    )
    loader: Any = DataLoader(images, batch_size=2)  # type: ignore[arg-type]
    attention = trainer.fit(loader)
    return LearnableCAM(model, attention=attention)(images[:2])


def cell(explain: Callable[[], np.ndarray], side: int) -> str:
    """What the table says of a way of explaining that gives maps (2, side, side), or fails to."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            maps = explain()
        except Exception as error:
            return reason(error)
    linearised = any("was linearised" in str(warning.message) for warning in said)
    return fault(maps, side) or (LINEARISED if linearised else WORKS)


def fault(maps: np.ndarray, side: int) -> str:
    """What is wrong with maps (2, side, side), or nothing."""
    if maps.shape != (2, side, side):
        return f"maps of shape {maps.shape}, not {(2, side, side)}"
    if not np.isfinite(maps).all():
        return "maps that are not finite"
    low, high = maps.min((1, 2)), maps.max((1, 2))
    if low.min() < 0 or high.max() > 1:
        return f"maps from {low.min():.3g} to {high.max():.3g}"
    return "constant maps" if (high - low).min() < 1e-3 else ""


def reason(error: Exception) -> str:
    """An error in a line of a table."""
    text = f"{type(error).__name__}: {error}".replace("|", "/")
    return shorten(text, 160, placeholder=" ...")
