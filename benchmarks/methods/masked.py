"""What a classifier says of masked copies of an image: what RISE, SIDU and SISE have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_grad_cam.activations_and_gradients import ActivationsAndGradients
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn

from learnable_cam_plugin.cam import target_category
from learnable_cam_plugin.classifier import class_scores
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


@contextmanager
def unrecorded(cam: BaseCAM) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """What BaseCAM recorded in the pass before, (activations, gradients), a tensor a layer.

    Inside the block its hooks are off: they would keep the feature maps of every masked pass.
    """
    recorder = cam.activations_and_grads
    recorded = list(recorder.activations), list(recorder.gradients)
    recorder.release()
    try:
        yield recorded
    finally:
        cam.activations_and_grads = ActivationsAndGradients(
            cam.model, cam.target_layers, cam.reshape_transform, cam.detach
        )


def categories(targets: Sequence[Any]) -> list[int]:
    """The class index of each pytorch-grad-cam target."""
    return [target_category(target) for target in targets]
