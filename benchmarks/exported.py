"""Exported graphs and eager methods as calls of the same images, to be timed in turns."""

import copy
import random
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.stats import spearmanr
from torch import Tensor, nn

from learnable_cam_plugin import ExplainedClassifier, Normalization, export_onnx, load_classifier
from learnable_cam_plugin.classifier import as_grid

from .methods.recipro_cam import ReciproCAM
from .testbed import blank

# of torchvision, seeded: the layer that Grad-CAM and classic CAM read; others are a protocol's
LAYERS = {
    "resnet18": "layer4",
    "mobilenet_v3_large": "features",
    "convnext_tiny": "features",
    "vit_b_16": "encoder.layers.encoder_layer_11.ln_1",
}
LOGITS, EAGER = "onnxruntime, logits alone", "eager, logits alone"
Call = Callable[[], Any]


def classifier(network: str) -> tuple[nn.Module, Normalization | None, int, str]:
    """The model with seeded weights, its normalisation, the side of its images, and the layer."""
    if network not in LAYERS:
        bed = blank(network, images=1)
        return bed.model, bed.normalization, bed.pictures.images.shape[2], bed.network.layer
    loaded = load_classifier(f"torchvision:{network}", weights="random")
    return loaded.model, loaded.normalization, loaded.side, LAYERS[network]


def session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime  # the extra `export`

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def export_logits(model: nn.Module, path: Path, images: Tensor) -> None:
    """The classifier alone, exported as `export_onnx` does it."""
    batch = {0: torch.export.Dim.DYNAMIC}
    two = images[:1].repeat(2, 1, 1, 1)
    traced = torch.export.export(model, (two,), dynamic_shapes=(batch,), strict=False)
    program: Any = torch.onnx.export(traced, dynamo=True, input_names=["images"], verbose=False)
    program.save(path, external_data=False)


def graphs(model: nn.Module, layer: str, images: Tensor, folder: Path) -> dict[str, Path]:
    """What is timed in onnxruntime -> its file."""
    found = {LOGITS: folder / "logits.onnx"}
    export_logits(model, found[LOGITS], images)
    kinds: dict[str, dict[str, Any]] = {"top class": {}, "top 5": {"top": 5}}
    kinds["classic CAM"] = {"attention": "head", "target_layers": [layer]}
    for number, (name, settings) in enumerate(kinds.items()):
        try:
            explained = ExplainedClassifier(model, images, **settings)
        except (ValueError, TypeError):
            if name != "classic CAM":
                raise
            continue  # its head gives no maps by itself
        found[f"onnxruntime, {name}"] = folder / f"{number}.onnx"
        export_onnx(explained, found[f"onnxruntime, {name}"], images)
    return found


def eager(model: nn.Module, layer: str, images: Tensor) -> dict[str, Callable[[Tensor], Any]]:
    """What is timed in torch, each with a copy of the model: hooks that stay slow every pass."""

    def of_class_0(cam: Any, given: Tensor) -> Any:
        return cam(given, [ClassifierOutputTarget(0)] * len(given))

    def tokens(output: Tensor) -> Tensor:
        grid = as_grid(output, images.shape[2:])
        assert grid is not None
        return grid

    gradients, others = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        ran: list[Tensor] = []
        hook = model.get_submodule(layer).register_forward_hook(lambda *a: ran.append(a[2]))
        model(images[:1])
        hook.remove()
    is_map = ran[-1].ndim == 4
    grad_cam = GradCAM(gradients, [gradients.get_submodule(layer)], None if is_map else tokens)
    found: dict[str, Callable[[Tensor], Any]] = {
        EAGER: model,
        "eager, ExplainedClassifier": ExplainedClassifier(model, images),
        "eager, ExplainedClassifier, top 5": ExplainedClassifier(model, images, top=5),
        "eager, Grad-CAM": partial(of_class_0, grad_cam),
    }
    if is_map:
        recipro = ReciproCAM(others, [others.get_submodule(layer)])
        found["eager, Recipro-CAM"] = partial(of_class_0, recipro)
    return found


def calibration_split(images: Tensor) -> tuple[Tensor, Tensor]:
    """Every fourth image, which shows 8-bit integers their ranges, and the others, on which they
    are measured."""
    if len(images) < 2:
        raise ValueError(
            f"8-bit integers are measured on other photographs than they were calibrated on: give "
            f"at least 2, got {len(images)}"
        )
    shown = torch.arange(len(images)) % 4 == 0
    return images[shown], images[~shown]


def in_turns(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, a round each, in a new random order every round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):  # two warm up
        for name in random.sample(list(calls), len(calls)):
            with torch.set_grad_enabled("Grad-CAM" in name):
                began = time.perf_counter()
                calls[name]()
            if turn > 1:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(found: list[float], base: list[float]) -> float:
    """The median of a round's ratios."""
    return statistics.median(one / other for one, other in zip(found, base, strict=True))


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> float:
    """Spearman's, the mean over images (N, H, W)."""
    pairs = zip(maps.reshape(len(maps), -1), others.reshape(len(others), -1), strict=True)
    return float(np.mean([spearmanr(one, other).statistic for one, other in pairs]))
