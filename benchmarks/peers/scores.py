"""What a classifier says of masked copies of an image: what RISE, SIDU and SISE have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from learnable_cam_plugin.cam import target_category
from learnable_cam_plugin.features import class_scores
from learnable_cam_plugin.masking import Normalization, mask_image


def masked_probabilities(
    classifier: nn.Module, image: Tensor, masks: Tensor, normalization: Normalization
) -> Tensor:
    """Softmax probabilities (M, K) of an image (C, H, W) seen through masks (M, H, W).

    The masks act in [0, 1] pixel space, as everywhere in this project, so what they hide is black.
    """
    copies = image[None].expand(len(masks), *image.shape)
    with torch.no_grad():
        scores = class_scores(classifier(mask_image(copies, masks, normalization)))
    return scores.float().softmax(1)


def categories(targets: Sequence[Any]) -> list[int]:
    """The class index of each pytorch-grad-cam target."""
    return [target_category(target) for target in targets]


def class_targets(classes: Tensor) -> list[ClassifierOutputTarget]:
    """pytorch-grad-cam targets of class indices (N,)."""
    return [ClassifierOutputTarget(int(c)) for c in classes]
