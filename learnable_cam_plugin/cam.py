"""LearnableCAM: learned class activation maps behind pytorch-grad-cam's interface."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import Tensor, nn

from .attention import (
    AttentionMechanism,
    GivenAttention,
    HeadedAttention,
    known_of,
    own_attention,
    raw_class_maps,
)
from .classifier import (
    FrozenClassifier,
    ReshapeTransform,
    ScoresOf,
    bare,
    class_indices,
    device_of,
    layer_names,
)
from .recorder import Recorder
from .saliency import combine, min_max, resize, saliency
from .targets import class_list, class_weights, classes_and_signs, one_each, other_classes


class LearnableCAM(BaseCAM):
    """L-CAM (Gkartzonika, Gkalelis, Mezaris, ECCV Workshops 2022) as a pytorch-grad-cam method.

    One forward pass of the classifier, no gradient, under any autograd mode. The classifier is
    left as it was: its training flags, gradients and hooks too.

    Args:
        model: the classifier, giving class scores (N, K).
        target_layers: the layers whose feature maps the attention reads, as modules or names; of
            several the mean of their maps is shown, as in every pytorch-grad-cam method. An
            attention that fuses its layers makes one map of all of them, whichever are named here.
            None takes the attention's own; without one, those that one run of the model shows.
        reshape_transform: turns a layer's output into (N, C, h, w), for vision transformers; tokens
            that make a grid of the images' proportions need none.
        attention: a trained attention (module, file, folder or 'hf://owner/name'). A module's
            parameters are shared, not copied; one may serve several models, each with its own head.
            None takes the one that comes with the package and serves any classifier
            (`shipped_attention`): it reads what the head reads, and a finer layer, the named one or
            one that is found. "head" is classic CAM, for a head of global average pooling and a
            linear layer; volumes (N, C, D, H, W) get it by default too.
        tta_transforms: for `aug_smooth`, as in BaseCAM.
        output: what the model returns -> its class scores (N, K), where that is a dict or a tuple;
            `.logits`, which the models of transformers have, need none.
        check: False takes an attention that was made for other weights of the model, as when they
            are randomised on purpose; its layers and channels must fit all the same.

    Raises:
        CheckpointError: the attention was made for another model or other layers; a call raises it
            too, if the model's weights were changed since.
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
        target_layers: Sequence[nn.Module | str] | None = None,
        reshape_transform: ReshapeTransform | None = None,
        attention: AttentionMechanism | str | os.PathLike[str] | None = None,
        tta_transforms: Any = None,
        output: Callable[[Any], Tensor] | None = None,
        check: bool = True,
    ) -> None:
        model = model if output is None else ScoresOf(model, output)
        source: Any
        if attention is None or attention == "head":
            named = {} if target_layers is None else layer_names(model, target_layers)
            source = own_attention(model, attention, list(named), reshape_transform)
            self.layers = named
        else:
            source = GivenAttention(model, attention, target_layers, check)
            named, self.layers = source.target_layers, source.layers
        # BaseCAM would call the model's eval(), which may do more than set flags (LoRA merges its
        # weights), and hook its layers: it is shown a module of nothing.
        super().__init__(
            nn.ParameterList([torch.zeros(())]),
            [],
            reshape_transform,
            uses_gradients=False,
            tta_transforms=tta_transforms,
        )
        self.model, self.target_layers = model, list(named.values())
        self.device = device_of(model)
        classifier = FrozenClassifier(bare(model), self.layers, reshape_transform=reshape_transform)
        if isinstance(source, GivenAttention):
            source.attention.to(self.device)
        self._source = source
        self.activations_and_grads = Recorder(partial(source.read, classifier))

    @property
    def attention(self) -> AttentionMechanism | None:
        """The one that was given; else the one beside the model, from the first call on."""
        return self._source.attention

    @property
    def outputs(self) -> Any:
        """What the classifier gave in the last call, of this thread."""
        return self.activations_and_grads.outputs

    def saliency(
        self, input_tensor: Tensor, targets: Any = None, eigen_smooth: bool = False
    ) -> Tensor:
        """The maps as a tensor on the model's device: nothing is copied to the CPU.

        Args:
            input_tensor: (N, C, H, W) or (N, C, D, H, W), as the classifier expects it.
            targets: one target an image, one for all of them, or None for the top class of each. A
                class below 0 counts from the last, as it does in GradCAM and in Captum.
            eigen_smooth: project on the first principal component, as in BaseCAM.

        Returns:
            (N, H, W) or (N, D, H, W), float32, in [0, 1].
        """
        with self._seen(input_tensor):
            return saliency(self._raw_maps(targets, eigen_smooth), input_tensor.shape[2:])

    def several(
        self, input_tensor: Tensor, classes: Sequence[int] | None = None, top: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Several classes of each image, of one pass of the classifier.

        Args:
            input_tensor: as of `saliency`.
            classes: to explain, integers, the same of every image. Of a single score there is 0
                alone, and its map is of what speaks for it, whatever the sign.
            top: or the so many most probable ones of each, the first first; 5, or all of fewer.

        Returns:
            the classes (N, M), and their maps (N, M, H, W), each as `saliency` gives it.

        Raises:
            TypeError, ValueError, IndexError: `classes` is no list of integers, or empty; there is
                no such class, or not so many; or both are given.
        """
        if classes is not None and top is not None:
            raise ValueError(f"give classes or top, not both: got {classes!r} and top={top}")
        columns: Any = class_list(classes) if classes is not None else None
        with self._seen(input_tensor) as seen:
            count, most = seen.scores.shape
            if columns is None:
                top = min(5, most) if top is None else top
                if top not in range(1, most + 1):
                    raise ValueError(f"top must be 1 to {most}, the classes, got {top}")
                columns = seen.scores.topk(top, 1).indices
            given = torch.as_tensor(columns, device=self.device).expand(count, -1)
            wanted = class_indices(given, most)
            raw_maps = raw_class_maps(seen.attention, seen.features, wanted, seen.scores)
            seen.check(raw_maps)
            return wanted, saliency(raw_maps, input_tensor.shape[2:])

    def comparable(self, input_tensor: Tensor, targets: Any = None) -> Tensor:
        """The maps on one scale for all classes and images: (N, H, W), float32, in [0, 1].

        `saliency` is scaled to the full range map by map, of a class that is not there too. Here
        its highest place is as bright as the classifier is sure, at its surest place, of the class:
        see `HeadedAttention.strength`. Arguments as of `saliency`.

        Raises:
            TypeError: the attention does not read the classifier's head. Classic CAM's raw maps,
                which `LayerLearnableCam` gives, are on one scale as they are: that of the logits.
        """
        with self._seen(input_tensor) as seen:
            features, scores, attention = seen.features, seen.scores, seen.attention
            if not isinstance(attention, HeadedAttention):
                raise TypeError(
                    f"a {type(attention).__name__} does not read the classifier's head, by which "
                    "maps get one scale: pass attention=None; or compare LayerLearnableCam's"
                )
            maps = saliency(self._raw_maps(targets), input_tensor.shape[2:])
            given = None if targets is None else one_each(targets, len(scores))
            classes, signs = classes_and_signs(given, scores)
            classes = classes if signs is None else (signs < 0).long()
            against = other_classes(given, classes, scores.shape[1])
            return maps * attention.strength(features, classes, against)[:, None, None]

    @contextmanager
    def _seen(self, images: Any) -> Iterator[Recorder]:
        """What one pass of images shows, for the length of the block."""
        recorder = self.activations_and_grads
        with torch.no_grad():
            recorder(images.to(self.device) if isinstance(images, Tensor) else images)
            try:
                yield recorder
            finally:
                recorder.release()

    def forward(
        self, input_tensor: Tensor, targets: Any = None, eigen_smooth: bool = False
    ) -> np.ndarray:
        """`saliency` as numpy, what every BaseCAM returns."""
        return self.saliency(input_tensor, targets, eigen_smooth).cpu().numpy()

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Any = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> np.ndarray:
        """As BaseCAM's: float32 numpy (N, H, W) in [0, 1]; `targets` may be left out."""
        return super().__call__(input_tensor, targets, aug_smooth, eigen_smooth)

    @torch.no_grad()
    def compute_cam_per_layer(
        self, input_tensor: Tensor, targets: Any, eigen_smooth: bool
    ) -> list[Tensor]:
        """Each target layer's map (N, H, W) in [0, 1], from the maps recorded just before."""
        try:
            raw_maps = self._raw_maps(targets, eigen_smooth)
        finally:
            self.activations_and_grads.release()
        return [resize(min_max(raw), input_tensor.shape[2:]) for raw in raw_maps]

    def _raw_maps(self, targets: Any, eigen_smooth: bool = False) -> list[Tensor]:
        """Each target layer's raw map (N, h, w), finite, from the maps recorded just before."""
        recorder = self.activations_and_grads
        features, scores, attention = recorder.features, recorder.scores, recorder.attention
        targets = None if targets is None else one_each(targets, len(scores))
        classes, signs = classes_and_signs(targets, scores)
        if signs is not None and attention.two_sided:
            classes, signs = (signs < 0).long(), None
        classes = class_weights(targets, classes, scores)
        if classes.is_floating_point() and not attention.contrasts:
            raise TypeError(
                f"a {type(attention).__name__} cannot contrast a class with others, as "
                "FinerWeightedTarget and FinerCAM ask: pass a target of one class, such as "
                "ClassifierOutputTarget(index), or attention=calibrate(model, target_layers, "
                "images), which can"
            )
        against = other_classes(targets, classes, scores.shape[1])
        if eigen_smooth:
            if against is not None:
                raise ValueError("eigen_smooth shows one class: leave it out with a ContrastTarget")
            weighted = attention.weighted_features(features, classes)
            raw_maps = [self._principal_component(maps) for maps in weighted]
        else:
            if against is None:
                raw_maps = raw_class_maps(attention, features, classes, scores)
            else:
                known = known_of(attention, scores)
                raw_maps = attention.contrast(features, classes, against, **known)
                raw_maps = [raw.float() for raw in raw_maps]
        if signs is not None and not eigen_smooth:
            raw_maps = [raw * signs.view(-1, *[1] * (raw.ndim - 1)) for raw in raw_maps]
        recorder.check(raw_maps)
        return raw_maps

    def _principal_component(self, weighted: Tensor) -> Tensor:
        weighted = weighted.float().cpu()
        found = torch.from_numpy(get_2d_projection(weighted.numpy()))
        # its sign is arbitrary: that of what it stands for; like BaseCAM, keep the positive part
        sign = (found * weighted.sum(1)).flatten(1).sum(1).sign()
        return (found * sign.view(-1, *[1] * (found.ndim - 1))).clamp(min=0).to(self.device)

    def aggregate_multi_layers(self, cam_per_target_layer: list[Tensor]) -> np.ndarray:
        """The mean of the layers' maps, scaled to [0, 1]: float32 numpy (N, H, W)."""
        return combine(cam_per_target_layer).cpu().numpy()

    def __exit__(self, exc_type: Any, exc_value: Any, exc_tb: Any) -> None:
        # BaseCAM swallows an IndexError here; a class out of range must reach the caller.
        self.activations_and_grads.release()

    def __del__(self) -> None:
        # The constructor may have failed before there was anything to release.
        if getattr(self, "activations_and_grads", None) is not None:
            self.activations_and_grads.release()
