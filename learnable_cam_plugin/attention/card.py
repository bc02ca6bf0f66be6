"""The model card of an attention: what it is of, how it was made, how to use it, what it cannot."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..atomic import atomic_path
from .origin import Origin

_TAGS = ["class-activation-map", "explainability", "grad-cam", "captum", "pytorch"]
_MARK = "\n<!-- learnable-cam-plugin wrote this card; of the text above: {} -->\n"

_TEXT = """
# An attention for {classifier}

A {mechanism} of learnable-cam-plugin, with {numbers:,} numbers. Beside the image classifier that it
was made for, it gives the class activation map of any of its classes in one forward pass, with no
gradients.

| | |
| --- | --- |
| classifier (base model) | {architecture} |
| layers | {layers} |
| classes | {classes:,} |
| images | {images} |
| data | {data} |
| licence | {license_text} |

## Use

`pip install learnable-cam-plugin`; `model` is the classifier with its weights, `x` a batch of images as
above. With pytorch-grad-cam:

```python
from learnable_cam_plugin import LearnableCAM

cam = LearnableCAM(model, {targets}, attention={source})
grayscale = cam(input_tensor=x)  # (N, H, W) in [0, 1], of each image's top class
```

With Captum:

```python
from learnable_cam_plugin import LayerLearnableCam

method = LayerLearnableCam(model, model.get_submodule({last}), {source})
attribution = method.attribute(x, target=0)  # (N, 1, h, w), any sign
```

Pass `reshape_transform` too, as to Grad-CAM, if the layers give tokens (vision transformers).

## Training

{recipe}

## Figures

{figures}

## Limits

- It explains only the classifier beside which it was trained: {checked}.
  Fine-tune the classifier, and the attention must be trained again.
- It explains what the classifier sees in an image, right or wrong, and not whether it is right. Of classes
  that the classifier hardly tells apart the maps cover the same region, as the paper found.
- Trainings go through masked images: figures of masked images (average drop, increase in confidence)
  flatter a trained attention. Look at others too, and at the maps.

## Citation

```bibtex
@inproceedings{{gkartzonika2022learning,
  title     = {{Learning Visual Explanations for {{DCNN}}-Based Image Classifiers Using an Attention Mechanism}},
  author    = {{Gkartzonika, Ioanna and Gkalelis, Nikolaos and Mezaris, Vasileios}},
  booktitle = {{Computer Vision -- ECCV 2022 Workshops}},
  year      = {{2022}},
  note      = {{arXiv:2209.11189}}
}}
```

## Versions

{versions}
"""  # noqa: E501 - a title is one line


def model_card(
    mechanism: str,
    numbers: int,
    channels: Mapping[str, int],
    classes: int,
    origin: Origin | None,
    targets: Sequence[str],
    source: str = "my-attention",
    data: str | None = None,
    license: str = "unknown",
    **metadata: Any,
) -> ModelCard:
    """The card of an attention.

    Args:
        mechanism, numbers: the name of its class, how many parameters it has.
        channels, classes, origin: as the attention's.
        targets: the layers to name in use.
        source: where it is loaded from: a path, or 'hf://owner/name'.
        data: on what it was trained, in words; unless given, `origin.recipe["data"]`.
        license: of the attention, as the hub spells it ("mit", "cc-by-4.0", ...).
        metadata: more of `huggingface_hub.ModelCardData`: base_model (a hub id), datasets, ...
    """
    recipe = dict(origin.recipe) if origin else {}
    figures, data = recipe.pop("validation", None), data or recipe.pop("data", None)
    recipe.pop("classifier", None)  # the origin's own, once more
    architecture = origin.architecture if origin else ""
    text = _TEXT.format(
        classifier=_code(architecture.rpartition(".")[2]) if origin else "a classifier",
        mechanism=_code(mechanism),
        numbers=numbers,
        architecture=_code(architecture)
        if origin
        else "not recorded: this attention has no origin",
        layers=", ".join(f"{_code(name)} ({c:,} channels)" for name, c in channels.items()),
        classes=classes,
        images=_images(origin),
        data=_cell(str(data or "not recorded: a training sees its loader, not what is in it")),
        license_text="not chosen yet: whoever made the attention chooses it"
        if license == "unknown"
        else _code(license),
        targets=json.dumps(list(targets)),
        last=json.dumps(targets[-1]),
        source=json.dumps(source),
        recipe=_table(("setting", "value"), recipe)
        or "Not recorded: this attention has no origin. Nobody can tell how it was made.",
        figures=_figures(figures),
        checked="any other is refused, and so are other weights"
        if origin
        else "with no origin, nothing checks that it is used beside it",
        versions=_table(("package", "version"), origin.versions if origin else {})
        or "Not recorded.",
    )
    about = {"library_name": "learnable-cam-plugin", "license": license, "tags": _TAGS, **metadata}
    return ModelCard(f"---\n{ModelCardData(**about).to_yaml()}\n---\n{text}")


def write_card(folder: Path, card: ModelCard) -> bool:
    """Write README.md, unless there is one that somebody else wrote or changed.

    Returns:
        whether it was written.
    """
    path, text = folder / "README.md", str(card)
    if path.exists():
        there = path.read_text(encoding="utf-8", errors="replace")
        if there != _marked(there.rpartition(_MARK.split("{")[0])[0]):
            return False
    with atomic_path(path) as temporary:
        temporary.write_text(_marked(text), encoding="utf-8", newline="\n")
    return True


def _marked(text: str) -> str:
    return text + _MARK.format(hashlib.sha256(text.encode()).hexdigest()[:16])


def _images(origin: Origin | None) -> str:
    size = origin.input_size if origin else None
    pixels = origin.normalization if origin else None
    shape = f"(N, {', '.join(map(str, size))})" if size else "of a size that is not recorded"
    if not pixels:
        return f"{shape}; their normalisation is not recorded"
    mean, std = (_code(json.dumps(pixels.get(name))) for name in ("mean", "std"))
    return f"{shape}, from [0, 1] normalised with mean {mean} and std {std}"


def _figures(validation: Any) -> str:
    table = _table(("figure", "value"), validation)
    if not table:
        return "None: no validation was recorded with it."
    return (
        "On images that it was not trained on, masked by the whole map, in percent. A lower "
        f"average drop is better, a higher increase in confidence.\n\n{table}"
    )


def _table(heading: tuple[str, str], values: Any) -> str:
    """Names and values as a table in Markdown; nothing for no values."""
    if not isinstance(values, Mapping) or not values:
        return ""
    rows = [f"| {heading[0]} | {heading[1]} |", "| --- | --- |"]
    for name, value in values.items():
        shown = value if isinstance(value, str) else json.dumps(value, default=str)
        rows.append(f"| {_code(name)} | {_code(shown)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    """Words that stay within a cell of a table."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([|<>])", r"\\\1", shorten(printable, 300, placeholder=" ..."))


def _code(text: str) -> str:
    """Text as it is, in a cell too."""
    return "`" + _cell(re.sub("[`|<>]", "'", text)) + "`"
