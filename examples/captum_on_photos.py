"""Captum's metrics on LayerLearnableCam and on LayerGradCam, side by side, on photographs.

    python examples/captum_on_photos.py FOLDER [--attention my-attention]

Explains EfficientNet-Lite0's predicted class. Prints max-sensitivity (how far the map moves as the
image moves a little) and infidelity of both methods, and how long each took. Without --attention
the one that comes with the package; "head", classic CAM, has the map of LayerGradCam itself here.
Nothing is downloaded.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import torch
from captum.attr import LayerAttribution, LayerGradCam
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor

from learnable_cam_plugin import LayerLearnableCam
from learnable_cam_plugin.classifier import predict
from learnable_cam_plugin.comparison import markdown_table
from learnable_cam_plugin.data import PhotoFolder
from learnable_cam_plugin.pretrained import efficientnet_lite0


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--attention", help='a file or a folder, or "head"')
@click.option("--images", "count", default=32, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, attention: str | None, count: int, seed: int) -> None:
    model, normalization = efficientnet_lite0()
    layer = model.get_submodule("features")
    photos = PhotoFolder(folder, normalization)
    x = torch.stack(
        [photos[i] for i in range(0, len(photos), max(1, len(photos) // count))][:count]
    )
    _, classes = predict(model, x)
    rows = [
        {"method": type(method).__name__, **measure(method, model, x, classes, seed)}
        for method in (LayerGradCam(model, layer), LayerLearnableCam(model, layer, attention))
    ]
    print(markdown_table(rows))


def measure(
    method: LayerAttribution, model: torch.nn.Module, x: Tensor, classes: Tensor, seed: int
) -> dict[str, float]:
    """Medians over the images: max-sensitivity and infidelity x 1000, and ms an image for a map."""

    def explain(inputs: Tensor | tuple[Tensor, ...], target: Tensor) -> tuple[Tensor]:
        """At the image's size, each map scaled by its own standard deviation."""
        images = inputs if isinstance(inputs, Tensor) else inputs[0]
        maps = LayerAttribution.interpolate(
            method.attribute(images, target), images.shape[2:], "bilinear"
        ).detach()
        maps = maps / maps.flatten(1).std(1).clamp(min=1e-12).view(-1, 1, 1, 1)
        return (maps.expand_as(images).contiguous(),)

    def perturb(images: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(images) * 0.05
        return noise, images - noise

    began = time.perf_counter()
    maps = explain(x, classes)
    seconds = time.perf_counter() - began
    torch.manual_seed(seed)
    sensitivity = sensitivity_max(explain, x, target=classes, n_perturb_samples=4)
    torch.manual_seed(seed)
    unfaithful = infidelity(model, perturb, x, maps[0], target=classes, normalize=True)
    return {
        "max-sensitivity x 1000": float(sensitivity.median()) * 1000,
        "infidelity x 1000": float(unfaithful.detach().median()) * 1000,
        "ms": seconds / len(x) * 1000,
        "images": len(x),
    }


if __name__ == "__main__":
    main()
