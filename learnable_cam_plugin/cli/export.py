"""`learnable-cam export`: a classifier and its explanation as one ONNX file."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..export import export_onnx
from ..loading import LoadedClassifier
from ..wording import warn
from .classifiers import open_attention
from .info import info
from .photographs import find_photos, read_each

_MOST = 32  # photographs that a head is linearised on


def export(
    loaded: LoadedClassifier,
    attention: str | None,
    photos: Sequence[Path],
    out: Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, bool],
) -> dict[str, Any]:
    """Write the file `out`, with the class names and the normalisation, and say what is in it.

    Args:
        loaded, attention: the classifier; the attention's file, or None.
        photos: that it is read on, see `find_photos`.
        settings, inputs: of `ExplainedClassifier`, as `top`; of `export_onnx`, as `pixels`.

    Raises:
        ValueError: a photograph that cannot be read; and as `export_onnx`.
        OSError: the file cannot be written; an old one there is as it was.
    """
    if out.suffix != ".onnx":
        raise ValueError(f"{out} must be named with .onnx at its end")
    images = images_of(loaded, photos)
    with redirect_stdout(sys.stderr):  # what the exporter tells
        export_onnx(
            loaded.model,
            out,
            images,
            attention=open_attention(attention),
            normalization=loaded.normalization,
            class_names=loaded.class_names,
            **settings,
            **inputs,
        )
    return info(str(out))


def images_of(loaded: LoadedClassifier, photos: Sequence[Path]) -> Tensor:
    """At most 32 (N, 3, side, side); random ones where none are given and none are shipped."""
    try:
        files = list(find_photos(photos))
    except FileNotFoundError:
        if photos:
            raise
        warn("no photographs are given or shipped, so the classifier is read on noise: give some")
        return loaded.pixels.normalize(torch.rand(2, 3, loaded.side, loaded.side))
    unread: list[str] = []
    found = [image for _, image in islice(read_each(files, loaded, unread), _MOST)]
    if unread:
        raise ValueError(f"{unread[0]}. Leave it out")
    return torch.stack(found)
