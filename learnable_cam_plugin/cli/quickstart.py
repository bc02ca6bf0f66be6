"""`learnable-cam quickstart`: the main job in minutes, on drawn shapes and a small network."""

import json
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.base_cam import BaseCAM
from tqdm.auto import tqdm

from ..cam import LearnableCAM
from ..checkpoint import atomic_path
from ..comparison import class_maps, compare_methods, markdown_table, open_methods, picture
from ..data import CLASSES, NORMALIZATION, DrawnImages, draw_images
from ..pretrained import small_network, train_classifier
from ..training import EveryThreshold, LearnableCAMTrainer


def quickstart(
    out: Path,
    seed: int = 0,
    train_images: int = 2000,
    test_images: int = 300,
    classifier_epochs: int = 24,
    attention_epochs: int = 8,
) -> list[dict[str, Any]]:
    """Train a small classifier of drawn shapes and the attention beside it, compare, draw.

    Every image shows two different shapes; the explanation of one of them should point at it and
    not at the other. All scores are on images that neither training saw. Run again with the same
    `out` and seed after an interruption, it continues the attention's training where it was.
    Returns the table of `compare_methods`.

    Args:
        out: folder for table.md, table.json, comparison.png and the attention's files.
        seed: of the images, both trainings and their orders.
        train_images, test_images: how many are drawn, at least 32 and 3; each epoch is a pass over
            the former.
        classifier_epochs, attention_epochs: at least 1.

    Raises:
        ValueError: a number out of range.
        CheckpointError: `out` holds a training with other settings.
        ModuleNotFoundError: the extra `train` is not installed.
    """
    began = time.perf_counter()
    least = {"seed": (seed, 0), "train_images": (train_images, 32), "test_images": (test_images, 3)}
    least |= {
        "classifier_epochs": (classifier_epochs, 1),
        "attention_epochs": (attention_epochs, 1),
    }
    for name, (value, lowest) in least.items():
        if value < lowest:
            raise ValueError(f"{name} must be at least {lowest}, got {value}")
    for package in ("accelerate", "matplotlib"):  # not after minutes of training
        import_module(package)
    out.mkdir(parents=True, exist_ok=True)
    print(f"1/4 drawing {train_images} + {test_images} images of {', '.join(CLASSES)}")
    train, test = draw_images(train_images, seed), draw_images(test_images, seed + 10_000)
    print(f"2/4 training a small classifier for {classifier_epochs} epochs")
    torch.manual_seed(seed)
    model = small_network()
    with tqdm(total=classifier_epochs, desc="classifier") as bar:

        def report(_epoch: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}")

        train_classifier(model, train, classifier_epochs, seed, report)
    print(f"    it names both shapes of {accuracy(model, test):.0%} of the held-out images")
    print("3/4 training the attention beside the frozen classifier")
    trainer = LearnableCAMTrainer(
        model,
        ["features.1", "features"],  # a finer grid beside the one that the head reads
        # most of a drawn image is background, which should be dark
        recipe=EveryThreshold(area=1.0),
        normalization=NORMALIZATION,
        epochs=attention_epochs,
        seed=seed,
        output_dir=out,
        device="cpu",
    )
    dataset = torch.utils.data.TensorDataset(train.images)
    attention = trainer.fit(torch.utils.data.DataLoader(dataset, 32, shuffle=True), resume=True)
    print("4/4 explaining the held-out images")
    layers = [model.get_submodule("features")]
    methods: dict[str, BaseCAM] = {
        "Grad-CAM": GradCAM(model, layers),
        "Grad-CAM++": GradCAMPlusPlus(model, layers),
        "classic CAM (untrained start)": LearnableCAM(model, layers),
        "LearnableCAM": LearnableCAM(model, layers, attention=attention),
    }
    with ExitStack() as stack:
        methods = open_methods(stack, methods)
        rows = compare_methods(model, methods, list(test.batches()), NORMALIZATION)
        # two images, each explained for both of its shapes
        shown, classes = test.images[[0, 2]].repeat_interleave(2, 0), test.classes[[0, 2]].flatten()
        maps = {name: class_maps(cam, shown, classes) for name, cam in methods.items()}
    titles = [f"explain: {CLASSES[c]}" for c in classes]
    picture(out / "comparison.png", shown, titles, maps, NORMALIZATION)
    table = markdown_table(rows)
    with atomic_path(out / "table.md") as path:
        path.write_text(table + "\n")
    with atomic_path(out / "table.json") as path:
        path.write_text(json.dumps({"seed": seed, "rows": rows}, indent=1))
    print(f"\n{table}\n\nAD: average drop, lower is better. IC: increase in confidence, higher is")
    print("better. Energy inside, pointing game: percent of the map, and of its peaks, inside the")
    print(f"shape explained. {time.perf_counter() - began:.0f} s in all. Pictures: {out}")
    return rows


@torch.no_grad()
def accuracy(model: torch.nn.Module, drawn: DrawnImages) -> float:
    """The share of images whose two top classes are the two shapes present."""
    top = model(drawn.images).topk(2, 1).indices.sort(1).values
    return float((top == drawn.classes.sort(1).values).all(1).float().mean())
