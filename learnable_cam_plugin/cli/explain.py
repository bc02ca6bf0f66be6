"""`learnable-cam explain`: photographs, with the attention that comes with the package."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import torch
from pytorch_grad_cam import GradCAM
from torchvision.models import EfficientNet_B0_Weights

from ..cam import LearnableCAM
from ..checkpoint import atomic_path
from ..classifier import class_scores
from ..comparison import class_maps, picture
from ..data import photo_transform, read_photo
from ..pretrained import pretrained

# package -> the photographs that it ships
_SHIPPED = {
    "skimage": ("data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}


def shipped_photos() -> list[Path]:
    """Photographs that scikit-learn and, if it is installed, scikit-image carry."""
    found = []
    for package, names in _SHIPPED.items():
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            paths = [Path(spec.submodule_search_locations[0]) / name for name in names]
            found += [path for path in paths if path.is_file()]
    return found


def explain_photos(photos: Sequence[Path], out: Path, top: int = 1) -> list[dict[str, Any]]:
    """Explain the `top` most probable classes of photographs, beside Grad-CAM.

    The photographs are image files, see `read_photo`; without any, those that packages ship. Writes
    explanations.png and explanations.json into the folder `out`, and returns what the latter holds:
    a row an explanation, with "photo", "class" (index), "name" and "probability".
    """
    model, normalization, attention = pretrained()
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    photos = photos or shipped_photos()
    transform = photo_transform(normalization)
    images = torch.stack([transform(read_photo(path)) for path in photos])
    with torch.no_grad():
        probabilities = class_scores(model(images)).softmax(1)
    p, classes = (found.flatten() for found in probabilities.topk(top, 1))
    images = images.repeat_interleave(top, 0)
    layers = [model.get_submodule("features")]
    with LearnableCAM(model, layers, attention=attention) as ours, GradCAM(model, layers) as other:
        cams = {"LearnableCAM": ours, "Grad-CAM": other}
        maps = {name: class_maps(cam, images, classes) for name, cam in cams.items()}
    paths = [str(path) for path in photos for _ in range(top)]
    rows = [
        {"photo": path, "class": c, "name": names[c], "probability": round(q, 4)}
        for path, c, q in zip(paths, classes.tolist(), p.tolist(), strict=True)
    ]
    titles = [f"{row['name']}\np = {row['probability']:.2f}" for row in rows]
    picture(out / "explanations.png", images, titles, maps, normalization)
    with atomic_path(out / "explanations.json") as path:
        path.write_text(json.dumps(rows, indent=1))
    return rows


@click.command("explain")
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="explanations",
    help="Folder for the picture and the JSON file.",
)
@click.option("--top", default=1, help="How many classes of each to explain.")
def command(photos: tuple[Path, ...], out: Path, top: int) -> None:
    """Explain what EfficientNet-Lite0 sees in PHOTOS, with the attention that comes with this.

    Without PHOTOS it takes those that scikit-learn and scikit-image carry. Nothing is trained,
    nothing is downloaded.
    """
    try:
        rows = explain_photos(photos, out, top)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for row in rows:
        click.echo(f"{Path(row['photo']).name}: {row['name']}, p = {row['probability']:.2f}")
    click.echo(f"see {out / 'explanations.png'}")
