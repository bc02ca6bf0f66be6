"""LearnableCAM: learned class activation maps behind pytorch-grad-cam's interface."""

import math
import os
import threading
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import BinaryClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor, nn
from torch.nn.functional import one_hot

from .attention import AttentionMechanism, ClassicHead, load_attention
from .classifier import (
    FrozenClassifier,
    HeadProbe,
    ReshapeTransform,
    bare,
    check_finite,
    class_indices,
    class_scores,
    device_of,
    layer_names,
)
from .saliency import combine, min_max, resize


def target_category(target: Any) -> int:
    """The class index that a pytorch-grad-cam target names.

    Raises:
        TypeError: the target names no class, so no learned map belongs to it.
    """
    category = getattr(target, "category", getattr(target, "main_category", None))
    if isinstance(category, Tensor | np.ndarray) and math.prod(category.shape) == 1:
        category = category.item()
    # A segmentation target has a category too, but of its mask's pixels, not of the image.
    named = not hasattr(target, "mask") and not isinstance(category, bool)
    if named and isinstance(category, (int, np.integer)):
        return int(category)
    raise TypeError(
        f"a {type(target).__name__} names no class, and LearnableCAM explains classes: use "
        "ClassifierOutputTarget(index), ClassifierOutputSoftmaxTarget, ClassifierOutputReST, "
        "BinaryClassifierOutputTarget, FinerWeightedTarget, or targets=None for the top class"
    )


def _weights(targets: Sequence[Any] | None, classes: Tensor, scores: Tensor) -> Tensor:
    """The classes (N,) as they are; or, where a target compares classes (FinerWeightedTarget), the
    weights (N, K) of all: 1 of the main one, -alpha p_k / (sum of p) of those beside it. (GradCAM
    differentiates the p_k too; with one class beside the main one that is the same.)"""
    compared = [getattr(target, "comparison_categories", None) or [] for target in targets or ()]
    if not any(len(others) for others in compared):
        return classes
    weights = one_hot(classes, scores.shape[1]).float()
    for row, target, others, of_image in zip(weights, targets or (), compared, scores, strict=True):
        if len(others):
            given = torch.tensor([int(other) for other in others])
            columns = class_indices(given, scores.shape[1]).to(scores.device)
            shares = of_image.float()[columns].softmax(0)
            row.index_add_(0, columns, shares, alpha=-float(target.alpha))
    return weights


class _Recorder(threading.local):
    """Stands where BaseCAM keeps ActivationsAndGradients: FinerCAM and others call it there.

    It hooks the layers for one call only, keeps the maps on their device, and makes no graph. What
    it holds between two calls is each thread's own.
    """

    def __init__(self, classifier: FrozenClassifier, head: ClassicHead | None) -> None:
        self._classifier, self._head = classifier, head
        self.gradients: list[Tensor] = []
        self.outputs: Any = None
        self.features: dict[str, Tensor] = {}
        self.scores: Tensor | None = None
        self.probe: HeadProbe | None = None

    @property
    def activations(self) -> list[Tensor]:
        return list(self.features.values())

    def __call__(self, images: Tensor) -> Tensor:
        self.release()
        model = self._classifier.model
        undecided = self._head is not None and not self._head.settled()
        probe = HeadProbe(model) if undecided else None
        forward = None if probe is None else partial(probe, model)
        self.outputs, self.features = self._classifier.read(images, forward)
        self.scores, self.probe = class_scores(self.outputs), probe
        return self.outputs

    def release(self) -> None:
        self.features, self.scores, self.probe = {}, None, None


class LearnableCAM(BaseCAM):
    """L-CAM (Gkartzonika, Gkalelis, Mezaris, ECCV Workshops 2022) as a pytorch-grad-cam method.

    One forward pass of the classifier, no gradient, under any autograd mode. The classifier is
    left as it was: its training flags, gradients and hooks too.

    Args:
        model: the classifier, giving class scores (N, K).
        target_layers: the layers whose feature maps the attention reads, as modules or names; of
            several the mean of their maps is shown, as in every pytorch-grad-cam method. An
            attention that fuses its layers (`ConditionedAttention`) makes one map of all of them,
            whichever are named here.
        reshape_transform: turns a layer's output into (N, C, h, w), for vision transformers.
        attention: a trained attention (module, file, folder or 'hf://owner/name'). A module's
            parameters are shared, not copied; one may serve several models, each with its own head.
            Without one, the head of the classifier is used if it is global average pooling and a
            linear layer: that is classic CAM, and costs no training.
        tta_transforms: for `aug_smooth`, as in BaseCAM.

    Raises:
        CheckpointError: the attention was made for another model or other layers.
        FileNotFoundError: no attention at the path, or in the hub's repository.

    >>> from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(8, 5))
    >>> with LearnableCAM(model=net, target_layers=[net[0]]) as cam:
    ...     grayscale = cam(torch.rand(2, 3, 32, 40), [ClassifierOutputTarget(3)] * 2)
    >>> grayscale.shape, grayscale.dtype.name, float(grayscale.min()), float(grayscale.max())
    ((2, 32, 40), 'float32', 0.0, 1.0)
    """

    activations_and_grads: Any

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module | str],
        reshape_transform: ReshapeTransform | None = None,
        attention: AttentionMechanism | str | os.PathLike[str] | None = None,
        tta_transforms: Any = None,
    ) -> None:
        self.layers = layer_names(model, target_layers)
        modules = list(self.layers.values())
        given = None
        if attention is not None:
            given = load_attention(attention).shared()
            given.attach(model, list(self.layers))
            self.layers = given.layers_to_read(self.layers, model)
        # BaseCAM would call the model's eval(), which may do more than set flags (LoRA merges its
        # weights), and hook its layers: it is shown a module of nothing.
        super().__init__(
            nn.ParameterList([torch.zeros(())]),
            [],
            reshape_transform,
            uses_gradients=False,
            tta_transforms=tta_transforms,
        )
        self.model, self.target_layers = model, modules
        self.device = device_of(model)
        self._given, self._head = given, None if given else ClassicHead(model)
        classifier = FrozenClassifier(bare(model), self.layers, reshape_transform=reshape_transform)
        self.activations_and_grads = _Recorder(classifier, self._head)
        if given is not None:
            given.to(self.device)

    @property
    def attention(self) -> AttentionMechanism | None:
        """The one that was given; else classic CAM, from the first call on."""
        return self._given if self._head is None else self._head.attention

    @property
    def outputs(self) -> Any:
        """What the classifier gave in the last call, of this thread."""
        return self.activations_and_grads.outputs

    def saliency(
        self, input_tensor: Tensor, targets: Sequence[Any] | None = None, eigen_smooth: bool = False
    ) -> Tensor:
        """The maps as a tensor on the model's device: nothing is copied to the CPU.

        Args:
            input_tensor: (N, C, H, W) or (N, C, D, H, W), as the classifier expects it.
            targets: one target an image, or None for the top class of each. A class below 0 counts
                from the last, as it does in GradCAM and in Captum.
            eigen_smooth: project on the first principal component, as in BaseCAM.

        Returns:
            (N, H, W) or (N, D, H, W), float32, in [0, 1].
        """
        with torch.no_grad():
            if isinstance(input_tensor, Tensor):  # else the check of the images says so
                input_tensor = input_tensor.to(self.device)
            self.activations_and_grads(input_tensor)
            maps = self.compute_cam_per_layer(input_tensor, targets, eigen_smooth)
            return combine(maps)

    def forward(
        self, input_tensor: Tensor, targets: Sequence[Any] | None = None, eigen_smooth: bool = False
    ) -> np.ndarray:
        """`saliency` as numpy, what every BaseCAM returns."""
        return self.saliency(input_tensor, targets, eigen_smooth).cpu().numpy()

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Sequence[Any] | None = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> np.ndarray:
        """As BaseCAM's: float32 numpy (N, H, W) in [0, 1]; `targets` may be left out."""
        return super().__call__(input_tensor, targets, aug_smooth, eigen_smooth)

    @torch.no_grad()
    def compute_cam_per_layer(
        self, input_tensor: Tensor, targets: Sequence[Any] | None, eigen_smooth: bool
    ) -> list[Tensor]:
        """Each target layer's map (N, H, W) in [0, 1], from the maps recorded just before."""
        recorder = self.activations_and_grads
        features, scores, probe = recorder.features, recorder.scores, recorder.probe
        recorder.release()
        if self._head is not None and probe is not None:
            self._head.read(probe, scores, features)
        attention: Any = self.attention
        if scores.shape[1] != attention.num_classes:
            raise ValueError(
                f"the model gives {scores.shape[1]} class scores, the attention explains "
                f"{attention.num_classes} classes: it was made for another model"
            )
        classes, signs = self._classes(targets, scores)
        classes = _weights(targets, classes, scores)
        if classes.is_floating_point() and not attention.contrasts:
            raise TypeError(
                f"a {type(attention).__name__} cannot contrast a class with others, as "
                "FinerWeightedTarget and FinerCAM ask: pass a target of one class, such as "
                "ClassifierOutputTarget(index), or attention=calibrate(model, target_layers, "
                "images), which can"
            )
        size = input_tensor.shape[2:]
        if eigen_smooth:
            weighted = attention.weighted_features(features, classes)
            raw_maps = [self._principal_component(maps) for maps in weighted]
        else:
            raw_maps = [raw.float() for raw in attention(features, classes)]
            raw_maps = [raw * signs.view(-1, *[1] * (raw.ndim - 1)) for raw in raw_maps]
        check_finite(raw_maps, scores, features, attention)
        if all(raw[0].numel() == 1 for raw in raw_maps):
            warnings.warn(
                f"the feature maps at {list(features)} are 1x1, so every map is constant: name an "
                "earlier target layer, or pass larger images",
                stacklevel=2,
            )
        return [resize(min_max(raw), size) for raw in raw_maps]

    def _principal_component(self, weighted: Tensor) -> Tensor:
        projection = get_2d_projection(weighted.float().cpu().numpy())
        # Its sign is arbitrary; like BaseCAM, keep the positive part.
        return torch.from_numpy(np.maximum(projection, 0)).to(self.device)

    def aggregate_multi_layers(self, cam_per_target_layer: list[Tensor]) -> np.ndarray:
        """The mean of the layers' maps, scaled to [0, 1]: float32 numpy (N, H, W)."""
        return combine(cam_per_target_layer).cpu().numpy()

    def _classes(self, targets: Sequence[Any] | None, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The class index and the sign of the map, (N,) each."""
        count, num_classes = scores.shape
        ones = torch.ones(count, device=self.device)
        if targets is None:
            if num_classes == 1:  # a single logit: its sign is the predicted class
                return torch.zeros_like(scores[:, 0], dtype=torch.long), scores[:, 0].sign()
            return scores.argmax(1), ones
        if isinstance(targets, Tensor) or not isinstance(targets, Sequence):
            raise TypeError(
                f"targets must be a list with one target an image, got {type(targets).__name__}"
            )
        if len(targets) != count:
            raise ValueError(f"{count} images need {count} targets, got {len(targets)}")
        categories = [target_category(target) for target in targets]
        if num_classes == 1 and all(isinstance(t, BinaryClassifierOutputTarget) for t in targets):
            signs = torch.tensor([1.0 if c == 1 else -1.0 for c in categories]).to(self.device)
            return torch.zeros(count, dtype=torch.long, device=self.device), signs
        classes = class_indices(torch.tensor(categories), num_classes)
        return classes.to(self.device), ones

    def __exit__(self, exc_type: Any, exc_value: Any, exc_tb: Any) -> None:
        # BaseCAM swallows an IndexError here; a class out of range must reach the caller.
        self.activations_and_grads.release()

    def __del__(self) -> None:
        # The constructor may have failed before there was anything to release.
        if getattr(self, "activations_and_grads", None) is not None:
            self.activations_and_grads.release()
