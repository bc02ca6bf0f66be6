"""`learnable-cam train`: an attention beside any classifier, on a folder of photographs."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..attention import AttentionMechanism
from ..cam import LearnableCAM
from ..classifier import predict
from ..comparison import class_maps, picture
from ..data import PhotoFolder, photo_files
from ..loading import LoadedClassifier
from ..training import LearnableCAMTrainer
from ..training.checks import check_extra
from .classifiers import device_named, open_attention
from .common import Chosen
from .photographs import read_each

# steps after which the state is saved too: what an interruption costs at most
_EVERY = 50
_SHOWN = 8


@dataclass(frozen=True)
class Settings:
    """How to train; see `LearnableCAMTrainer`. Without `layers` those that are found; `start` may
    be an attention's file."""

    recipe: str = "every-threshold"
    start: str | None = None
    layers: tuple[str, ...] = ()
    epochs: int = 8
    batch: int = 32
    seed: int = 0
    workers: int = 0


def train(
    loaded: LoadedClassifier,
    chosen: Chosen,
    folder: Path,
    out: Path,
    settings: Settings,
    validate: Path | None = None,
    skip: bool = False,
) -> dict[str, Any]:
    """Train, or go on with it, and leave in `out` what the trainer leaves, and pictures.png.

    Args:
        loaded, chosen: the classifier, by which options.
        folder, validate: of photographs to train on, and to score after each epoch.
        out, settings: where to write; how to train.
        skip: leave out photographs that cannot be read; else they are refused before it starts.

    Returns:
        "attention" (its folder), "layers", "images", "left out" and "history", a row an epoch.

    Raises:
        ValueError: photographs that cannot be read, naming them; and as the trainer.
        OSError, RuntimeError: as the trainer.
    """
    check_extra()
    start: str | AttentionMechanism | None = settings.start
    if isinstance(start, str) and start not in ("head", "universal", "random"):
        start = open_attention(start)
    device = device_named(chosen.device)
    left_out: list[str] = []
    photos = _folder(loaded, folder, True, skip, left_out)
    scored = None if validate is None else _folder(loaded, validate, False, skip, left_out)
    trainer = LearnableCAMTrainer(
        loaded.model,
        settings.layers or loaded.layers,
        recipe=settings.recipe,
        normalization=loaded.pixels,
        start=start,
        epochs=settings.epochs,
        seed=settings.seed,
        output_dir=out,
        checkpoint_every=_EVERY,
        device="cpu" if device.type == "cpu" else None,
        progress=sys.stderr.isatty(),  # no bar in a log
    )
    loader = DataLoader(photos, settings.batch, shuffle=True, num_workers=settings.workers)
    against = None
    if scored is not None:
        against = DataLoader(scored, settings.batch, num_workers=settings.workers)
    attention = trainer.fit(loader, against, resume=True)
    shown = (scored or photos).files[:_SHOWN]
    images = torch.stack([x for _, x in read_each(shown, loaded, [])])
    _draw(out / "pictures.png", loaded, attention, images)
    return {
        "attention": str(out / "attention"),
        "layers": list(attention.channels),
        "images": len(photos),
        "left out": left_out,
        "history": trainer.history,
    }


def _folder(
    loaded: LoadedClassifier, folder: Path, train: bool, skip: bool, left_out: list[str]
) -> PhotoFolder:
    """The photographs of a folder, each of which was read once."""
    files, unread = photo_files(folder), list[str]()
    readable = [path for path, _ in read_each(files, loaded, unread, f"reading {folder}")]
    if unread and not (skip and readable):
        more = f", and {len(unread) - 3} more" if len(unread) > 3 else ""
        raise ValueError(
            f"{len(unread)} of {len(files)} photographs cannot be read: {'; '.join(unread[:3])}"
            f"{more}. Remove them, or give --skip-unreadable"
        )
    left_out += unread
    photos = PhotoFolder(folder, loaded.pixels, loaded.side, train)
    photos.files = readable
    return photos


def _draw(
    path: Path, loaded: LoadedClassifier, attention: AttentionMechanism, images: torch.Tensor
) -> None:
    """A page of photographs (N, 3, H, W), explained without the training and with it."""
    probabilities, classes = predict(loaded.model, images)
    cams = {"no training": None, "trained": attention}
    maps = {
        name: class_maps(LearnableCAM(loaded.model, attention=one), images, classes)
        for name, one in cams.items()
    }
    titles = [
        f"{loaded.class_name(c)}\np = {p:.2f}"
        for c, p in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]
    picture(path, images, titles, maps, loaded.pixels)
