"""LearnableCAM in other evaluations: Quantus' `explain_func`, and an extractor for torchcam."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from .cam import LearnableCAM
from .classifier import floating_weight
from .saliency import combine


def explain_func(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    method: str | None = None,
    device: Any = None,
    **settings: Any,
) -> np.ndarray:
    """What Quantus calls to explain: `quantus.evaluate(..., xai_methods={"name": explain_func},
    explain_func_kwargs={...})`, and `explain_func=` of its metrics.

    Args:
        model: the classifier, each time as it is: metrics change it.
        inputs: (N, C, H, W), a numpy array or a tensor.
        targets: (N,), class indices; other numbers are a ValueError.
        method, device: what Quantus hands on: the name under which it lists this, and where the
            model is; not used.
        settings: of `LearnableCAM`. Layers go by name: metrics explain copies of the model. With
            an attention that was trained beside it, tests that randomise the model (MPRT) take
            check=False; the one that comes with the package needs none.

    Returns:
        (N, 1, H, W), float32, in [0, 1].

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(8, 5))
    >>> images = np.random.rand(2, 3, 12, 12)
    >>> explain_func(net, images, np.array([1, 4]), target_layers=["0"]).shape
    (2, 1, 12, 12)
    """
    weight = floating_weight(model)
    precision = torch.float32 if weight is None else weight.dtype  # noise makes doubles of images
    images = torch.as_tensor(inputs).to(precision)
    given = np.ravel(targets)
    if any(int(target) != target for target in given):
        raise ValueError(f"targets must be class indices, got {given.tolist()}")
    classes = [ClassifierOutputTarget(int(target)) for target in given]
    return LearnableCAM(model, **settings)(images, classes)[:, None]


class Extractor:
    """What torchcam's metrics take as their CAM extractor: `ClassificationMetric(Extractor(model),
    partial(torch.softmax, dim=-1))`.

    Args: as of `LearnableCAM`.

    Attributes:
        model: the classifier; a pass of it is what the next call explains.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(8, 5))
    >>> extractor = Extractor(net)
    >>> scores = extractor.model(torch.rand(2, 3, 12, 12))
    >>> [tuple(maps.shape) for maps in extractor([1, 4], scores)]
    [(2, 12, 12)]
    """

    def __init__(self, model: nn.Module, *args: Any, **settings: Any) -> None:
        self._cam = LearnableCAM(model, *args, **settings)
        self.model = _Watched(self._cam)

    def __call__(
        self, class_idx: int | Sequence[int] | None = None, scores: Any = None, *_: Any, **more: Any
    ) -> list[Tensor]:
        """The maps (N, H, W) in [0, 1] of the images that `model` was given last.

        Args:
            class_idx: a class for all, or one an image; None: the top class of each.
            scores: what torchcam passes on; not used.

        Raises:
            RuntimeError: `model` was not run since the last call.
            TypeError: `targets=` that name no class.
        """
        if more.get("targets") is not None:
            raise TypeError("LearnableCAM explains classes: pass class_idx, not targets")
        images = self.model.images
        if images is None:
            raise RuntimeError(
                "there is nothing to explain: run extractor.model(images) before each call"
            )
        self.model.images, classes = None, class_idx
        if isinstance(classes, (int, np.integer)):
            classes = [classes] * len(images)
        targets = None if classes is None else [ClassifierOutputTarget(k) for k in classes]
        return [combine(self._cam.compute_cam_per_layer(images, targets, False))]

    def fuse_cams(self, cams: Sequence[Tensor]) -> Tensor:
        """One map of all layers (N, H, W): the one that there is."""
        return cams[0]

    def _hooks_off(self) -> AbstractContextManager[None]:
        """torchcam asks for it around masked passes, which may be watched as well."""
        return nullcontext()


class _Watched(nn.Module):
    """The classifier, whose feature maps are read in each pass."""

    def __init__(self, cam: LearnableCAM) -> None:
        super().__init__()
        self.network, self._read = cam.model, cam.activations_and_grads
        self.images: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        scores = self._read(images)
        self.images = images
        return scores
