"""`learnable-cam analyze`: why labelled photographs are classified wrongly."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..analysis.analysis import Analysis
from ..analysis.case import Photo
from ..analysis.causes import Thresholds
from ..analysis.hierarchy import read_hierarchy
from ..analysis.labels import photographs
from ..analysis.maps import check_two
from ..analysis.study import analyze, drawn_for
from ..analysis.written import check_folder, write_report
from ..classifier import class_scores, evaluating
from ..data import read_photo
from ..loading import LoadedClassifier
from .classifiers import device_named, open_attention
from .common import Chosen
from .photographs import batched, read_each
from .records import alone

Batch = tuple[Tensor, list[Photo]]
# of what is asked, that the report says of what it was made
_FILES = ("labels", "hierarchy", "train", "train_labels")


@dataclass(frozen=True)
class Wanted:
    """What is asked of the photographs; None is without, or what `analyze` takes by itself.

    Attributes:
        labels, train_labels: CSV files; None takes the names of folders.
        hierarchy, thresholds: files, see `read_hierarchy` and `read_thresholds`.
        train: a folder of training images.
        correct: how many correct images to look at.
        figures: draw a figure of each case, too.
        seed, batch: of what is drawn at random; images at once.
    """

    labels: Path | None = None
    hierarchy: Path | None = None
    thresholds: Path | None = None
    train: Path | None = None
    train_labels: Path | None = None
    correct: int = 100
    figures: bool = False
    seed: int = 0
    batch: int = 8


class Labelled:
    """The labelled photographs in a folder, read a few at a time.

    Attributes:
        files: name, the path within the folder -> (path, class), see `labels.photographs`.
        unread: name -> why it could not be read, once `batches` is through.
    """

    def __init__(
        self,
        loaded: LoadedClassifier,
        device: torch.device,
        folder: Path,
        labels: Path | None,
        names: tuple[str, ...],
    ) -> None:
        self._loaded, self._device = loaded, device
        found = photographs(folder, labels, names)
        self.files = {_name(path, folder): (path, label) for path, label in found}
        self.unread: dict[str, str] = {}

    def batches(self, size: int, what: str, seed: int | None = None) -> Iterator[Batch]:
        """(images (N, 3, side, side), photographs), up to `size` at once; `what` names a bar.

        With a seed in an order at random, each photograph's place by its name: the first of them
        are a sample.
        """
        photos = [(path, Photo(name, label)) for name, (path, label) in self.files.items()]
        if seed is not None:
            photos.sort(key=lambda one: drawn_for(one[1], seed).random())
        known = dict(photos)
        reasons: list[str] = []
        left = dict(known)
        for part in batched(read_each(list(known), self._loaded, reasons, what), size):
            images = torch.stack([image for _, image in part])
            yield images.to(self._device), [left.pop(path) for path, _ in part]
        self.unread = {p.name: why for p, why in zip(left.values(), reasons, strict=True)}

    def as_seen(self, name: str) -> NDArray[np.uint8]:
        """The part of a photograph that the classifier is given, RGB (side, side, 3).

        Raises:
            OSError: it cannot be read any more.
        """
        loaded, path = self._loaded, self.files[name][0]
        try:
            image = loaded.transform(read_photo(path, loaded.side))
        except ValueError as error:
            raise OSError(str(error)) from error
        rgb = loaded.pixels.rgb(image[None])[0]
        return (rgb * 255).round().astype(np.uint8)


def analyze_photos(
    loaded: LoadedClassifier,
    chosen: Chosen,
    attention: str | None,
    folder: Path,
    out: Path,
    wanted: Wanted,
) -> tuple[Analysis | None, list[str], Path | None]:
    """Analyse the labelled photographs in a folder, and write the report to the folder `out`.

    Args:
        loaded, chosen, attention: the classifier, by which options; the attention's file, or None.
        folder, out, wanted: of what; the folder to write to; what is asked.

    Returns:
        the analysis; why photographs were left out, those to train on among them; and the report's
        page. Without a photograph that can be read there is no analysis and no page.

    Raises:
        ValueError: a label, a hierarchy or a threshold that does not fit.
        RuntimeError: another run writes to `out`.
        OSError: a file is not there, or `out` cannot be written to; an earlier report there is then
            as it was.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"--out {out} lies within the photographs: choose another folder")
    check_folder(out)
    names, settings = class_names(loaded), dict[str, Any]()
    if wanted.hierarchy is not None:
        settings["hierarchy"] = read_hierarchy(wanted.hierarchy, names)
    if wanted.thresholds is not None:
        settings["thresholds"] = read_thresholds(wanted.thresholds)
    given, device = open_attention(attention), device_named(chosen.device)
    photos, training = Labelled(loaded, device, folder, wanted.labels, names), None
    if wanted.train is not None:
        training = Labelled(loaded, device, wanted.train, wanted.train_labels, names)
        settings["training"] = training.batches(wanted.batch, "reading training images")
    loaded.model.to(device)
    with alone(out):
        batches = photos.batches(wanted.batch, "analysing", wanted.seed)
        first = next(batches, None)
        if first is None:
            return None, list(photos.unread.values()), None
        analysis = analyze(
            loaded.model,
            chain([first], batches),
            loaded.pixels,
            names,
            attention=given,
            correct=wanted.correct,
            seed=wanted.seed,
            progress=False,
            **settings,
        )
        others = {} if training is None else training.unread
        unread = {**photos.unread, **{f"training: {name}": why for name, why in others.items()}}
        files = {name: getattr(wanted, name) for name in _FILES}
        added = {
            "model": chosen.model,
            "weights": chosen.weights,
            # the names alone: a report may go to others
            "names": None if chosen.names is None else Path(chosen.names).name,
            "photographs": folder.resolve().name,
            **{name: None if path is None else path.name for name, path in files.items()},
        }
        place = {name: i for i, name in enumerate(photos.files)}
        analysis = replace(
            analysis,
            cases=tuple(sorted(analysis.cases, key=lambda case: place[case.photo.name])),
            unread=dict(sorted(unread.items())),
            settings={**analysis.settings, **added},
        )
        page = write_report(analysis, out, photos.as_seen, figures=wanted.figures)
    return analysis, list(unread.values()), page


def class_names(loaded: LoadedClassifier) -> tuple[str, ...]:
    """One a class; "class 7" where there are none.

    Raises:
        ValueError: there are more or fewer than classes; or there is one score.
    """
    with evaluating(loaded.model):
        scores = class_scores(loaded.model(torch.zeros(1, 3, loaded.side, loaded.side)))
    check_two(scores)  # before the labels, of which none would be a class
    loaded.check_names(scores.shape[1])
    return tuple(map(loaded.class_name, range(scores.shape[1])))


def read_thresholds(path: Path) -> Thresholds:
    """Thresholds from a file, JSON or (from Python 3.11) TOML: name -> number; the others are left.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or has a name or a value that is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        given = _toml(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:  # of both libraries
        raise ValueError(f"{path} is no JSON or TOML: {error}") from error
    if not isinstance(given, Mapping):
        raise ValueError(f"{path} must have a name and a number each, got {given!r}")
    known = [one.name for one in fields(Thresholds)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{path}: {unknown[0]!r} is no threshold; they are {', '.join(known)}")
    try:
        return Thresholds(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _toml(text: str) -> Any:
    try:
        tomllib = import_module("tomllib")
    except ModuleNotFoundError as error:
        raise ValueError("TOML takes Python 3.11, write JSON") from error
    return tomllib.loads(text)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
