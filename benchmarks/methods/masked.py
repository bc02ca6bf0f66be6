"""What RISE, SIDU and SISE have in common: they ask what the classifier says of masked copies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_grad_cam.activations_and_gradients import ActivationsAndGradients
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn

from learnable_cam_plugin.classifier import class_scores
from learnable_cam_plugin.masking import Normalization, mask_image
from learnable_cam_plugin.targets import target_category


class MaskingCAM(BaseCAM):
    """A method that scores masked copies of each image.

    Args:
        model, target_layers, reshape_transform: as BaseCAM's.
        normalization: what the images went through.
        batch_size: masked copies scored at once.
        scorer: what scores them; the classifier unless given.
        progress: show a bar.
    """

    activations_and_grads: Any

    def __init__(
        self,
        model: nn.Module,
        target_layers: Sequence[nn.Module] = (),
        reshape_transform: Any = None,
        *,
        normalization: Normalization,
        batch_size: int = 32,
        scorer: nn.Module | None = None,
        progress: bool = True,
        uses_gradients: bool = False,
    ) -> None:
        layers = list(target_layers)
        super().__init__(model, layers, reshape_transform, uses_gradients=uses_gradients)
        self.normalization, self.batch_size = normalization, batch_size
        self.scorer, self.progress = scorer or model, progress

    def masked_probabilities(self, image: Tensor, masks: Tensor) -> Tensor:
        """Softmax probabilities (M, K) of an image (C, H, W) seen through masks (M, H, W).

        The masks act in [0, 1] pixel space, as everywhere here, so what they hide is black.
        """
        copies = image[None].expand(len(masks), *image.shape)
        with torch.no_grad():
            masked = mask_image(copies, masks.to(image.device), self.normalization)
            return class_scores(self.scorer(masked)).float().softmax(1)

    @contextmanager
    def unrecorded(self) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """What BaseCAM recorded in the pass before, (activations, gradients), a tensor a layer.

        Inside the block its hooks are off: they would keep the feature maps of every masked pass.
        """
        recorder = self.activations_and_grads
        recorded = list(recorder.activations), list(recorder.gradients)
        recorder.release()
        try:
            yield recorded
        finally:
            self.activations_and_grads = ActivationsAndGradients(
                self.model, self.target_layers, self.reshape_transform, self.detach
            )


def categories(targets: Sequence[Any]) -> list[int]:
    """The class index of each pytorch-grad-cam target."""
    return [target_category(target) for target in targets]
