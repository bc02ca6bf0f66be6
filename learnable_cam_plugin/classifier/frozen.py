"""The classifier that is explained: what it is read at, its clean pass, and how it is held."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..masking import Normalization
from .checks import check_images, class_scores, not_finite_images, run_on
from .guards import channels_last, evaluating, frozen, on_device
from .layers import ReshapeTransform, forward_with_features, layer_names
from .wrappers import bare


@dataclass(frozen=True)
class FrozenClassifier:
    """A classifier and how its feature maps are read. Nothing here changes it for good.

    Attributes:
        model, layers: gives class scores (N, K); name -> module of the target layers.
        normalization: what its images went through; needed to mask them.
        reshape_transform: as in pytorch-grad-cam, for layers of tokens.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> features, scores = FrozenClassifier.of(net, ["0"]).clean_pass(torch.rand(2, 3, 5, 6))
    >>> tuple(features["0"].shape), tuple(scores.shape)
    ((2, 4, 3, 4), (2, 4))
    """

    model: nn.Module
    layers: Mapping[str, nn.Module]
    normalization: Normalization | None = None
    reshape_transform: ReshapeTransform | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        target_layers: Iterable[nn.Module | str],
        normalization: Normalization | None = None,
        reshape_transform: ReshapeTransform | None = None,
    ) -> "FrozenClassifier":
        """Of a model, read at layers given as modules or names; see `layer_names` and `bare`."""
        layers = layer_names(model, target_layers)
        return cls(bare(model), layers, normalization, reshape_transform)

    @property
    def pixels(self) -> Normalization:
        """The normalisation, where it is needed; else an error."""
        if self.normalization is None:
            raise ValueError(
                "masking acts on pixels in [0, 1], and no normalization was declared: pass "
                "normalization=Normalization(mean, std), the one that your images went through"
            )
        return self.normalization

    @torch.no_grad()
    def read(
        self, images: Tensor, forward: Callable[..., Any] | None = None
    ) -> tuple[Any, dict[str, Tensor]]:
        """One pass of images (N, C, H, W) or (N, C, D, H, W) in eval mode, without a graph: (the
        output, layer name -> its maps). `forward` runs the model, for whoever watches the pass."""
        run, reshape = forward or self.model, self.reshape_transform
        check_images(images)
        with evaluating(self.model), run_on(self.model, images):
            return forward_with_features(run, self.layers, images, reshape_transform=reshape)

    def clean_pass(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Layer name -> feature maps, and the class scores (N, K), of images without a mask.

        Raises:
            ValueError: the model gives one score.
            FloatingPointError: scores are NaN or infinite, and so tell no class.
        """
        outputs, features = self.read(images)
        scores = class_scores(outputs)
        if scores.shape[1] < 2:  # no masked image can compete with a single score
            raise ValueError(
                "the model gives one score; training needs one a class. Wrap a binary classifier "
                "so that it returns two, for example torch.cat([-z, z], 1)."
            )
        if not bool(torch.isfinite(scores.sum(dtype=torch.float32))):
            bad = not_finite_images(scores)
            raise FloatingPointError(
                f"the classifier's own scores of the images {bad} of the batch are not finite, "
                "before any mask: check its weights and these images, or train without mixed "
                "precision"
            )
        return features, scores

    @contextmanager
    def held(self, device: torch.device) -> Iterator[None]:
        """For the length of the block on `device`, in eval mode, with no gradient of its own."""
        with on_device(self.model, device), channels_last(self.model), frozen(self.model):
            yield


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Probability and index of the top class, (N,) each."""
    with evaluating(model):
        probabilities, classes = class_scores(model(images)).float().softmax(1).max(1)
    return probabilities, classes
