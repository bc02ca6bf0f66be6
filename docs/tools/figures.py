"""The figures of docs/concepts.md: the masks of the two L-CAM variants, and of every threshold.

    python docs/tools/figures.py        # a few minutes on one core; needs the extra `photos`

The first two follow the figures of the paper (Gkartzonika, Gkalelis, Mezaris, 2022), drawn anew: a
small classifier of drawn shapes and both variants are trained here, and the pictures are theirs.
The third is of the attention that comes with the package, on a photograph of scikit-image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from learnable_cam_plugin import LearnableCAM, LearnableCAMTrainer
from learnable_cam_plugin.attention import AttentionMechanism
from learnable_cam_plugin.classifier import classify_masked_features, forward_with_features
from learnable_cam_plugin.cli.photographs import shipped_photos
from learnable_cam_plugin.data import (
    CLASSES,
    NORMALIZATION,
    draw_images,
    mosaics,
    photo_transform,
    read_photo,
)
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.pretrained import pretrained, small_network, train_classifier
from learnable_cam_plugin.saliency import resize
from learnable_cam_plugin.training.objectives.thresholds import soft_top

OUT = Path(__file__).resolve().parents[1] / "images"
IMAGE = 0  # of the held-out ones
FROZEN, TRAINED = "#5c6b8a", "#c2410c"
COLD, HOT = "viridis", "inferno"


class Canvas:
    """A strip of panels with arrows between them; places in inches."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), dpi=130)
        self.size = (width, height)

    def panel(self, x: float, y: float, side: float, title: str = "", below: str = "") -> Axes:
        width, height = self.size
        axis = self.figure.add_axes((x / width, y / height, side / width, side / height))
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(title, fontsize=8.5, pad=4)
        axis.set_xlabel(below, fontsize=7.5, labelpad=3)
        return axis

    def arrow(
        self, start: Sequence[float], end: Sequence[float], text: str = "", colour: str = FROZEN
    ) -> None:
        points = [(x / self.size[0], y / self.size[1]) for x, y in (start, end)]
        self.figure.add_artist(
            FancyArrowPatch(*points, arrowstyle="-|>", mutation_scale=11, color=colour, lw=1.4)
        )
        middle = [(a + b) / 2 for a, b in zip(*points, strict=True)]
        level = start[1] == end[1]
        self.figure.text(
            middle[0] + (0 if level else 0.06 / self.size[0]),
            middle[1] + (0.07 / self.size[1] if level else 0),
            text,
            ha="center" if level else "left",
            va="bottom" if level else "center",
            fontsize=7,
            color=colour,
        )

    def save(self, name: str) -> None:
        self.figure.savefig(OUT / name, facecolor="white", bbox_inches="tight", pad_inches=0.06)


def pixels(image: Tensor) -> np.ndarray:
    """A drawn image (3, H, W), normalised, as an array to show."""
    return NORMALIZATION.denormalize(image[None])[0].clamp(0, 1).permute(1, 2, 0).numpy()


def grid(canvas: Canvas, x: float, y: float, side: float, maps: Tensor, texts: list[str]) -> None:
    """Nine feature maps (9, h, w) in [0, 1]."""
    part, gap = side / 3, 0.03
    for i, one in enumerate(maps):
        row, column = divmod(i, 3)
        axis = canvas.panel(x + part * column, y + part * (2 - row), part - gap)
        axis.imshow(one, cmap=COLD, vmin=0, vmax=1)
    for text, level, where in ((texts[0], y + side + 0.03, "bottom"), (texts[1], y - 0.06, "top")):
        canvas.figure.text(
            (x + side / 2) / canvas.size[0],
            level / canvas.size[1],
            text,
            ha="center",
            va=where,
            fontsize=8.5 if where == "bottom" else 7.5,
        )


def scores(canvas: Canvas, x: float, y: float, side: float, p: Tensor, chosen: int) -> None:
    """The class probabilities (K,) as bars."""
    axis = canvas.panel(x, y, side, "class scores")
    colours = [TRAINED if k == chosen else FROZEN for k in range(len(p))]
    axis.barh(range(len(p)), p.tolist(), color=colours)
    axis.set_xlim(0, 1)
    axis.invert_yaxis()
    axis.set_yticks(range(len(p)), CLASSES, fontsize=6.5)
    axis.yaxis.tick_right()
    axis.tick_params(length=0)
    axis.set_xlabel(f"loss: the {CLASSES[chosen]}\nmust stay, the map be small", fontsize=7)


def train(seed: int) -> tuple[nn.Sequential, dict[str, AttentionMechanism], Tensor, int]:
    """A classifier of drawn shapes, both variants beside it, an image (1, 3, H, W) and a class."""
    drawn, held_out = draw_images(2000, seed), draw_images(8, seed + 10_000)
    torch.manual_seed(seed)
    model = small_network()
    train_classifier(model, drawn, 16, seed)
    loader = DataLoader(TensorDataset(drawn.images), 32, shuffle=True)
    attentions = {
        recipe: LearnableCAMTrainer(
            model,
            ["features"],
            recipe=recipe,
            start="random",
            normalization=NORMALIZATION,
            epochs=8,
            seed=seed,
            device="cpu",
            progress=False,
        ).fit(loader)
        for recipe in ("l-cam-fm", "l-cam-img")
    }
    image = held_out.images[IMAGE : IMAGE + 1]
    return model, attentions, image, int(held_out.classes[IMAGE, 0])


@torch.no_grad()
def parts(
    model: nn.Sequential, attention: AttentionMechanism, image: Tensor, chosen: int
) -> tuple[int, Tensor, Tensor]:
    """How many channels, nine of the feature maps (9, h, w) scaled to a maximum of 1, and the
    attention (1, h, w) in (0, 1)."""
    layers = {"features": model.get_submodule("features")}
    maps = forward_with_features(model, layers, image)[1]
    (raw,) = attention(maps, torch.tensor([chosen]))
    (features,) = maps["features"]
    strong = features.flatten(1).amax(1).argsort(descending=True)[:36]
    shown = features[strong[::4]]
    return len(features), shown / shown.amax((1, 2), keepdim=True), raw.sigmoid()


def draw_lcam_fm(
    model: nn.Sequential, attention: AttentionMechanism, image: Tensor, chosen: int
) -> None:
    """image -> feature maps -> attention -> masked feature maps -> class."""
    count, shown, mask = parts(model, attention, image, chosen)
    with torch.no_grad():
        layer = model.get_submodule("features")
        p = classify_masked_features(model, layer, image, mask).softmax(1)[0]
    canvas, middle = Canvas(10.4, 2.3), 1.12
    canvas.panel(0.1, 0.45, 1.35, "image").imshow(pixels(image[0]))
    canvas.arrow((1.52, middle), (2.42, middle), "frozen\nnetwork")
    grid(canvas, 2.5, 0.45, 1.35, shown, ["feature maps A", f"9 of {count} channels, 12 x 12"])
    canvas.arrow((3.92, middle), (4.72, middle), "1x1 conv,\nsigmoid", TRAINED)
    axis = canvas.panel(4.8, 0.45, 1.35, f"attention: {CLASSES[chosen]}", "trained, 12 x 12")
    axis.imshow(mask[0], cmap=HOT, vmin=0, vmax=1)
    canvas.arrow((6.22, middle), (6.72, middle), "\u00d7 A", TRAINED)
    grid(
        canvas,
        6.8,
        0.45,
        1.35,
        shown * mask,
        ["masked feature maps", "every channel \u00d7 the map"],
    )
    canvas.arrow((8.2, middle), (8.85, middle), "rest of the\nnetwork")
    scores(canvas, 8.95, 0.72, 0.8, p, chosen)
    canvas.save("l-cam-fm.png")


def draw_lcam_img(
    model: nn.Sequential, attention: AttentionMechanism, image: Tensor, chosen: int
) -> None:
    """image -> feature maps -> attention -> resized -> masked image -> class."""
    count, shown, mask = parts(model, attention, image, chosen)
    masked = mask_image(image, mask, NORMALIZATION)
    with torch.no_grad():
        p = model(masked).softmax(1)[0]
    canvas, middle = Canvas(10.4, 2.1), 1.02
    canvas.panel(0.1, 0.45, 1.15, "image").imshow(pixels(image[0]))
    canvas.arrow((1.3, middle), (1.95, middle), "frozen\nnetwork")
    grid(canvas, 2.0, 0.45, 1.15, shown, ["feature maps A", f"9 of {count} channels"])
    canvas.arrow((3.2, middle), (3.9, middle), "1x1 conv,\nsigmoid", TRAINED)
    axis = canvas.panel(3.95, 0.45, 1.15, f"attention: {CLASSES[chosen]}", "trained, 12 x 12")
    axis.imshow(mask[0], cmap=HOT, vmin=0, vmax=1)
    canvas.arrow((5.15, middle), (5.65, middle), "bilinear", TRAINED)
    axis = canvas.panel(5.7, 0.45, 1.15, "resized", "96 x 96")
    axis.imshow(resize(mask, image.shape[2:])[0], cmap=HOT, vmin=0, vmax=1)
    canvas.arrow((6.9, middle), (7.42, middle), "\u00d7 image", TRAINED)
    axis = canvas.panel(7.47, 0.45, 1.15, "masked image", "in [0, 1] pixels")
    axis.imshow(pixels(masked[0]))
    canvas.arrow((8.68, middle), (9.1, middle), "whole\nnetwork")
    scores(canvas, 9.15, 0.67, 0.7, p, chosen)
    canvas.save("l-cam-img.png")


def draw_every_threshold() -> None:
    """The masks of the default recipe: the map as shown, its highest pixels, all but them; and a
    mosaic, whose map should lie in the cell of the class."""
    model, normalization, attention = pretrained()
    transform = photo_transform(normalization)
    photos = torch.stack([transform(read_photo(path)) for path in shipped_photos()])
    cam = LearnableCAM(model, [model.get_submodule("features")], attention=attention)
    image = photos[:1]
    maps = cam.saliency(image)
    chosen = int(cam.outputs.argmax(1))
    half, seventh = (soft_top(maps, torch.tensor([share])) for share in (0.5, 0.15))
    masks = {
        "the whole map": (maps, "black"),
        "its highest 50 %": (maps * half, "mean"),
        "its highest 15 %": (maps * seventh, "blur"),
        "all but the highest 15 %": (1 - seventh, "black"),
    }
    canvas = Canvas(12.5, 4.6)

    def show(x: float, y: float, one: Tensor, title: str, below: str) -> None:
        rgb = normalization.denormalize(one)[0].clamp(0, 1).permute(1, 2, 0).numpy()
        canvas.panel(x, y, 1.85, title, below).imshow(rgb)

    def probability(one: Tensor) -> str:
        with torch.no_grad():
            return f"p = {float(model(one).softmax(1)[0, chosen]):.2f}"

    show(0.1, 1.4, image, "image", f"{probability(image)} of the class explained")
    for i, (title, (mask, filling)) in enumerate(masks.items()):
        x = 2.2 + 2.02 * i
        canvas.panel(x, 2.45, 1.85, title).imshow(mask[0], cmap=HOT, vmin=0, vmax=1)
        masked = mask_image(image, mask, normalization, filling)
        show(x, 0.3, masked, "", f"in front of {filling}: {probability(masked)}")
    # as training draws them, from images of four classes
    tiles, members, _ = mosaics(photos[:4], torch.arange(4), 1, seed=0)
    cell = int((members[0] == 0).nonzero()[0])
    (of_class,) = cam.saliency(tiles, [ClassifierOutputTarget(chosen)])
    show(10.45, 2.45, tiles, "a mosaic", "")
    axis = canvas.panel(10.45, 0.3, 1.85, "", "the map of the first image's class")
    axis.imshow(of_class, cmap=HOT, vmin=0, vmax=1)
    row, column = divmod(cell, 2)
    axis.add_patch(Rectangle((112 * column, 112 * row), 111, 111, fill=False, ec="#4ade80", lw=2))
    canvas.save("every-threshold.png")


def main() -> None:
    model, attentions, image, chosen = train(seed=0)
    draw_lcam_fm(model, attentions["l-cam-fm"], image, chosen)
    draw_lcam_img(model, attentions["l-cam-img"], image, chosen)
    draw_every_threshold()


if __name__ == "__main__":
    main()
