"""`learnable-cam quickstart`: what it does, seen in a minute on photographs and drawn shapes."""

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn

from ..atomic import atomic_path
from ..attention import AttentionMechanism
from ..cam import LearnableCAM
from ..classifier import FrozenClassifier
from ..comparison import class_maps, compare_methods, markdown_table, open_methods, picture
from ..data import CLASSES, NORMALIZATION, draw_images
from ..pretrained import accuracy, shapes_classifier
from ..training import EveryThreshold, LearnableCAMTrainer
from ..training.checks import check_extra
from .classifiers import default_classifier
from .pages import explain_photos


def quickstart(
    out: Path,
    seed: int = 0,
    train: bool = False,
    test_images: int = 300,
    train_images: int = 2000,
    epochs: int = 2,
) -> list[dict[str, Any]]:
    """Explain photographs and drawn images beside Grad-CAM, with nothing trained; then fine-tune.

    The photographs are those that packages ship, if the extra `photos` is installed. A drawn image
    shows two different shapes; the explanation of one should point at it and not at the other. The
    classifier of shapes is one that the shipped attention was not trained beside. Run again with
    the same `out` and seed after an interruption, the fine-tuning goes on where it was.

    Args:
        out: folder for photos.png and photos.json, table.md, table.json and comparison.png, and
            with `train` the fine-tuned attention and its training.
        seed: of the drawn images and the fine-tuning.
        train: fine-tune the attention beside the classifier of shapes, and compare that too.
        test_images, train_images: how many are drawn, at least 3 and 32.
        epochs: of the fine-tuning, passes over `train_images`, at least 1.

    Returns:
        the table of `compare_methods`.

    Raises:
        ValueError: a number out of range.
        CheckpointError: `out` holds a training with other settings.
        ModuleNotFoundError: the extra `train` is not installed.
    """
    began = time.perf_counter()
    least = {"seed": (seed, 0), "test_images": (test_images, 3)}
    least |= {"train_images": (train_images, 32), "epochs": (epochs, 1)}
    for name, (value, lowest) in least.items():
        if value < lowest:
            raise ValueError(f"{name} must be at least {lowest}, got {value}")
    if train:
        check_extra()  # what is missing is missed now
    out.mkdir(parents=True, exist_ok=True)
    steps = 3 if train else 2
    print(f"1/{steps} explaining photographs with EfficientNet-Lite0")
    explain_shipped(out)
    model, fine_tuned = shapes_classifier(), None
    if train:
        # before the table, so that a folder of another training is left as it is
        print(f"2/{steps} fine-tuning beside a classifier of {', '.join(CLASSES)}")
        fine_tuned = fine_tune(model, out, seed, train_images, epochs)
    print(f"{steps}/{steps} explaining {test_images} drawn images of {', '.join(CLASSES)}")
    rows = compare_on_shapes(model, fine_tuned, out, seed, test_images)
    print(f"\n{markdown_table(rows)}\n")
    print("AD: average drop, lower is better. IC: increase in confidence, higher is better. Energy")
    print(
        "inside, pointing game: percent of the map, and of its peaks, inside the shape explained."
    )
    print(f"{time.perf_counter() - began:.0f} s in all. Pictures and tables: {out}")
    return rows


def explain_shipped(out: Path) -> None:
    """The photographs that packages ship, in photos.png; why not, where that cannot be."""
    try:
        rows, unread = explain_photos(default_classifier(), [], out, name="photos")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        print(f"    left out: {error}")
        return
    for problem in unread:
        print(f"    left out: {problem}")
    for row in rows:
        print(f"    {Path(row['photo']).name}: {row['name']}, p = {row['probability']:.2f}")


def fine_tune(
    model: nn.Module, out: Path, seed: int, count: int, epochs: int
) -> AttentionMechanism:
    """The shipped attention, trained on beside the classifier, on `count` drawn images."""
    images = draw_images(count, seed).images
    trainer = LearnableCAMTrainer(
        model,
        FrozenClassifier.found(model, images).layers,
        # most of a drawn image is background, which should be dark, and at 1 is not
        recipe=EveryThreshold(area=3.0),
        start="universal",
        normalization=NORMALIZATION,
        epochs=epochs,
        seed=seed,
        output_dir=out,
        device="cpu",
    )
    dataset = torch.utils.data.TensorDataset(images)
    return trainer.fit(torch.utils.data.DataLoader(dataset, 32, shuffle=True), resume=True)


def compare_on_shapes(
    model: nn.Module, fine_tuned: AttentionMechanism | None, out: Path, seed: int, count: int
) -> list[dict[str, Any]]:
    """The table of held-out images, also as table.md and table.json, and comparison.png."""
    test, layers = draw_images(count, seed + 10_000), [model.get_submodule("features")]
    print(f"    the classifier names both shapes of {accuracy(model, test):.1%} of them")
    methods: dict[str, BaseCAM] = {
        "Grad-CAM": GradCAM(model, layers),
        "Grad-CAM++": GradCAMPlusPlus(model, layers),
        "classic CAM": LearnableCAM(model, layers, attention="head"),
        "LearnableCAM": LearnableCAM(model),
    }
    if fine_tuned is not None:
        methods["LearnableCAM (fine-tuned)"] = LearnableCAM(model, attention=fine_tuned)
    with ExitStack() as stack:
        methods = open_methods(stack, methods)
        rows = compare_methods(model, methods, list(test.batches()), NORMALIZATION)
        draw(out / "comparison.png", test.images[[0, 2]], test.classes[[0, 2]], methods)
    with atomic_path(out / "table.md") as path:
        path.write_text(markdown_table(rows) + "\n")
    with atomic_path(out / "table.json") as path:
        path.write_text(json.dumps({"seed": seed, "rows": rows}, indent=1))
    return rows


def draw(path: Path, images: Tensor, classes: Tensor, methods: Mapping[str, BaseCAM]) -> None:
    """A picture of images (N, 3, H, W), each explained for both of its shapes `classes` (N, 2)."""
    shown, explained = images.repeat_interleave(2, 0), classes.flatten()
    maps = {name: class_maps(cam, shown, explained) for name, cam in methods.items()}
    titles = [f"explain: {CLASSES[c]}" for c in explained]
    picture(path, shown, titles, maps, NORMALIZATION)
