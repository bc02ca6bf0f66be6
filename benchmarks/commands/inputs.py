"""A picture of all that the universal attention sees of one photograph, and of the map it makes.

\b
    python -m benchmarks inputs --out docs/images/universal-inputs.png

Without --photo it is the first of those that packages ship, scikit-image's cat. The class explained
is the one that the network predicts.
"""

from pathlib import Path

import click
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor
from torchvision.models import EfficientNet_B0_Weights

from learnable_cam_plugin import LearnableCAM
from learnable_cam_plugin.atomic import atomic_path
from learnable_cam_plugin.attention import UniversalAttention, universal_beside
from learnable_cam_plugin.attention.evidence import evidence
from learnable_cam_plugin.classifier import FrozenClassifier, predict
from learnable_cam_plugin.cli.photographs import shipped_photos
from learnable_cam_plugin.data import photo_transform, read_photo

from ..sources import SIDES, lite, universal

# of `evidence`, in its order; docs/why-no-training.md numbers them alike
NAMES = (
    "contrast, standardised",
    "logit, standardised",
    "contrast, in spreads",
    "log share among rivals",
    "logit, in spreads",
    "margin over the best rival",
    "norm, last layer",
    "contrast, carried",
    "logit, carried",
    "contrast in spreads, carried",
    "log share, carried",
    "norm, finer layer",
)
_COLUMNS = 7


@click.command(help=__doc__)
@click.option("--photo", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--network", type=click.Choice(["lite0", "lite2"]), default="lite2", show_default=True
)
@click.option(
    "--attention", type=click.Path(path_type=Path, exists=True), help="if not the shipped"
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(photo: Path | None, network: str, attention: Path | None, out: Path) -> None:
    number = int(network[-1])
    classifier = lite(number)
    transform = photo_transform(classifier.pixels, SIDES[number])
    try:
        image = transform(read_photo(photo or shipped_photos()[0], SIDES[number]))[None]
        p, classes = predict(classifier.model, image)
        maps, shown = read(classifier, universal(attention), image, classes)
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    name = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"][int(classes)]
    draw(classifier, image, f"{name}, p = {float(p):.2f}", maps, shown, out)


def read(
    classifier: FrozenClassifier, trained: UniversalAttention, image: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """The inputs (12, h, w) and the map (H, W) of an image (1, C, H, W) and its class (1,)."""
    model, names = classifier.model, list(classifier.layers)
    bound = universal_beside(classifier, image, trained)
    features, _ = classifier.clean_pass(image)
    found = evidence(bound.maps(features), bound.vectors, bound.offsets, classes)
    with LearnableCAM(model, names, attention=bound) as cam:
        return found.maps[0], cam.saliency(image)[0]


def draw(
    classifier: FrozenClassifier, image: Tensor, title: str, maps: Tensor, shown: Tensor, out: Path
) -> None:
    """The image, each input in red above 0 and in blue below it, and the map over the image."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rgb = classifier.pixels.rgb(image)[0]
    figure = Figure(figsize=(2 * _COLUMNS, 5.2), layout=ConstrainedLayoutEngine(h_pad=0.08))
    first, *panels, last = figure.subplots(-(-(len(NAMES) + 2) // _COLUMNS), _COLUMNS).flat
    first.imshow(rgb)
    first.set_title(title, fontsize=8.5)
    for i, (axis, name, one) in enumerate(zip(panels, NAMES, maps, strict=True), 1):
        limit = max(float(one.abs().max()), 1e-6)
        axis.imshow(one, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{i}. {name}", fontsize=8.5)
        low, high = (round(float(end), 1) + 0.0 for end in one.aminmax())  # + 0: no -0.0
        axis.set_xlabel(f"{low} to {high}", fontsize=8)
    last.imshow(show_cam_on_image(rgb, shown.numpy(), True))
    last.set_title("the map that it makes", fontsize=8.5)
    for axis in (first, *panels, last):
        axis.set(xticks=[], yticks=[])
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=120)
