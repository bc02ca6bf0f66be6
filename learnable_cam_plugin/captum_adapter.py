"""Learned class activation maps behind Captum's interface: one forward pass, no backward."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from captum.attr import Attribution, LayerActivation, LayerAttribution
from torch import Tensor, nn

from .attention import (
    AttentionMechanism,
    GivenAttention,
    known_of,
    load_attention,
    own_attention,
)
from .classifier import (
    FrozenClassifier,
    ReshapeTransform,
    as_feature_maps,
    bare,
    check_finite,
    check_images,
    class_scores,
    core,
    evaluating,
    forward_with_features,
    layer_names,
    run_on,
)
from .saliency import saliency
from .targets import contrasted, target_classes

Inputs = Tensor | tuple[Tensor, ...]


class LayerLearnableCam(LayerAttribution):
    """L-CAM as a Captum layer attribution: the raw map of a class at the layer's resolution.

    Takes `LayerGradCam`'s arguments and returns (N, 1, h, w) as it does, at the finest layer that
    the attention reads: of any sign, of the one that comes with the package at least 0.
    Upsampled with `LayerAttribution.interpolate(..., "bilinear")` and scaled to [0, 1], it is the
    saliency of `LearnableCAM`.

    Args:
        forward_func: the classifier, a DataParallel of it, or a function around it. A module is put
            in eval mode for the pass; with a function that is up to the caller, as in Captum.
        layer: the layer whose output the attention reads, or of a module its name; of an attention
            that fuses several, any of them: the map has the finest one's resolution.
        attention: a trained attention: module, file, folder or 'hf://owner/name'; None takes the
            one that comes with the package, "head" is classic CAM, as in `LearnableCAM`.
        device_ids: for a function around a DataParallel, as in Captum; a list of them is taken in
            `LayerGradCam`'s position, the third, too.
        reshape_transform: as in pytorch-grad-cam, for layers of tokens.
        check: False takes an attention that was made for other weights, as in `LearnableCAM`.

    Raises:
        CheckpointError: the attention was made for another model or layer.
        ValueError: `forward_func` is a function, and no attention is given or it covers several
            layers.

    >>> from learnable_cam_plugin import LCAMAttention
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(8, 5))
    >>> attention = LCAMAttention({"0": 8}, num_classes=5)
    >>> images = torch.rand(2, 3, 12, 12)
    >>> attribution = LayerLearnableCam(net, net[0], attention).attribute(images, target=[1, 4])
    >>> tuple(attribution.shape), tuple(LayerAttribution.interpolate(attribution, (12, 12)).shape)
    ((2, 1, 10, 10), (2, 1, 12, 12))
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | str,
        attention: AttentionMechanism | str | os.PathLike[str] | list[int] | None = None,
        device_ids: list[int] | None = None,
        reshape_transform: ReshapeTransform | None = None,
        check: bool = True,
    ) -> None:
        if isinstance(attention, list):
            attention, device_ids = None, attention
        # None: a function
        self._model = bare(forward_func) if isinstance(forward_func, nn.Module) else None
        if isinstance(layer, str):
            if self._model is None:
                raise ValueError(f"the layer {layer!r} of a function is unknown: pass the module")
            (layer,) = layer_names(self._model, [layer]).values()
        super().__init__(forward_func, layer, device_ids)
        self.reshape_transform = reshape_transform
        self._parallel = self._model is None and device_ids is not None
        modules = [] if self._model is None else core(self._model).named_modules()
        names = [name for name, module in modules if module is layer]
        self._layers: dict[str, nn.Module] = dict.fromkeys(names[:1], layer)
        self._source = self._given = None
        self.attention: AttentionMechanism | None = None
        if attention is None or attention == "head":
            if self._model is None or not names:
                raise ValueError(
                    f"attention={attention!r} reads the classifier's own head, which cannot be "
                    "seen through a function, or of a layer that is no module of it: pass the "
                    "module as forward_func, or a trained attention"
                )
            self._source = own_attention(self._model, attention, names[:1], reshape_transform)
            return
        if self._model is not None and names:
            self._given = bound = GivenAttention(self._model, attention, names[:1], check)
            self.attention, self._layers = bound.attention, bound.layers
            return
        given = self.attention = load_attention(attention).shared()
        if len(given.channels) == 1:
            self._layers = {next(iter(given.channels)): layer}
        else:
            where = (
                "seen through a function: pass the module"
                if self._model is None
                else f"told, as it is no module of {type(core(self._model)).__name__}: name one"
            )
            raise ValueError(
                f"the attention covers the layers {list(given.channels)}, and which of them "
                f"`layer` is cannot be {where}, or an attention of one layer"
            )

    @torch.no_grad()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
        grad_kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """The map of the target class, as `LayerGradCam.attribute` gives it.

        Args:
            inputs: a tensor or a tuple of them, (N, ...), as the forward function takes them.
            target: the class: an int or a tensor with one for all, a list or tensor with one an
                image, a tuple (class,) or a list of such. Needed if there are several classes. Or
                (A, B), or a list of such: what speaks for class A rather than B.
            additional_forward_args: passed on to the forward function.
            attribute_to_layer_input: read the layer's input instead of its output.
            relu_attributions: keep the positive part only.
            attr_dim_summation: False gives W_y * A before the sum over channels, (N, C, h, w), with
                an equal part of b_y each: their sum is the map.
            grad_kwargs: taken, and not used: there is no gradient.

        Returns:
            (N, 1, h, w), or (N, C, h, w); type and device of the layer's output.

        Raises:
            AssertionError: what Captum raises for a missing or malformed target.
            IndexError: a class out of range.
            TypeError, ValueError: the layer gives no feature maps (N, C, h, w); the attention makes
                one map of several layers, and is asked for a part of each channel.
        """
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        for one in given:
            if not isinstance(one, Tensor) or one.ndim in (4, 5):
                check_images(one)
        more = () if additional_forward_args is None else additional_forward_args
        more = more if isinstance(more, tuple) else (more,)
        outputs, features, attention = self._pass(given, more, attribute_to_layer_input)
        maps = next(reversed(features.values()))
        target, against = contrasted(target, len(maps), attention.num_classes)
        classes = target_classes(target, len(maps), attention.num_classes).to(maps.device)
        attention.to(maps.device)
        known = {} if outputs is None else known_of(attention, class_scores(outputs))
        if against is None:
            result = attention(features, classes, **known)[0][:, None]
        else:
            against = against.to(maps.device)
            result = attention.contrast(features, classes, against, **known)[0][:, None]
        if not attr_dim_summation:
            if against is not None:
                raise ValueError("attr_dim_summation=False shows one class, not a contrast of two")
            result = _by_channel(attention, features, classes, result)
        check_finite([result.float()], outputs, features, attention)
        return (result.relu() if relu_attributions else result).to(maps.dtype)

    def _pass(
        self, given: tuple, more: tuple, of_input: bool
    ) -> tuple[Any, dict[str, Tensor], AttentionMechanism]:
        """One pass: the output, the feature maps, and the attention that takes them."""
        if self._source is not None:
            if more or len(given) > 1 or of_input:
                raise ValueError(
                    "without a trained attention the classifier's head and layers are read, from "
                    "its outputs on images alone: pass attention= to use additional inputs or "
                    "attribute_to_layer_input"
                )
            reshape = self.reshape_transform
            classifier = FrozenClassifier(self._model, self._layers, None, reshape)  # type: ignore[arg-type]
            outputs, features, self.attention = self._source.read(classifier, given[0])
            return outputs, features, self.attention
        if self._given is not None:
            self._given.check()
        mode = nullcontext() if self._model is None else evaluating(self._model)
        with mode, run_on(self._model, given[0]):
            read = self._read_replicas if self._parallel else self._read
            assert self.attention is not None, "given, where there is no source"
            return *read(given, more, of_input), self.attention

    def _read(self, given: tuple, more: tuple, of_input: bool) -> tuple[Any, dict[str, Tensor]]:
        run = self.forward_func if self._model is None else self._model
        reshape = self.reshape_transform
        return forward_with_features(
            run, self._layers, *given, *more, reshape_transform=reshape, of_input=of_input
        )

    def _read_replicas(
        self, given: tuple, more: tuple, of_input: bool
    ) -> tuple[Any, dict[str, Tensor]]:
        """The maps of a model that DataParallel runs on several devices, in threads of its own."""
        watched = LayerActivation(self.forward_func, list(self._layers.values()), self.device_ids)
        seen = zip(self._layers, watched.attribute(given, more, of_input), strict=True)
        return None, {
            name: as_feature_maps(name, one, self.reshape_transform) for name, one in seen
        }


def _by_channel(
    attention: AttentionMechanism, features: dict[str, Tensor], classes: Tensor, total: Tensor
) -> Tensor:
    """What each channel adds to the map `total` (N, 1, ...): (N, C, ...)."""
    if attention.fuses:
        raise ValueError(
            f"attr_dim_summation=False asks for what each channel of the layer adds to the map, "
            f"and a {type(attention).__name__} makes one map of {list(features)} by convolutions, "
            "which is no sum over channels: leave it out, or pass an attention with a row of "
            "weights a class, such as 'head' or calibrate(model, [layer], images)"
        )
    parts = attention.weighted_features(features, classes)[0]
    return parts + (total - parts.sum(1, keepdim=True)) / parts.shape[1]


class InputLearnableCam(Attribution):
    """The saliency at the input's resolution, for Captum's visualization and metrics as it is.

    The same map as `LearnableCAM` of pytorch-grad-cam gives, repeated for each input channel.

    Args: as of `LayerLearnableCam`.

    >>> from learnable_cam_plugin import LCAMAttention
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(8, 5))
    >>> explainer = InputLearnableCam(net, net[0], LCAMAttention({"0": 8}, num_classes=5))
    >>> tuple(explainer.attribute(torch.rand(2, 3, 12, 12), target=3).shape)
    (2, 3, 12, 12)
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | str,
        attention: AttentionMechanism | str | os.PathLike[str] | list[int] | None = None,
        device_ids: list[int] | None = None,
        reshape_transform: ReshapeTransform | None = None,
        check: bool = True,
    ) -> None:
        super().__init__(forward_func)
        self.layer_method = LayerLearnableCam(
            forward_func, layer, attention, device_ids, reshape_transform, check
        )

    @torch.no_grad()
    def attribute(
        self, inputs: Inputs, target: Any = None, additional_forward_args: Any = None
    ) -> Inputs:
        """The saliency of the target class in [0, 1], in the shape of each input.

        Returns:
            a tensor, or a tuple if `inputs` is one: (N, C, H, W) or (N, C, D, H, W) each; an input
            beside an image that is none, such as a vector of features, gets zeros.

        Raises:
            ValueError: none of the inputs is an image.
        """
        raw = self.layer_method.attribute(inputs, target, additional_forward_args)[:, 0]
        shapes = [tuple(one.shape) for one in (inputs if isinstance(inputs, tuple) else (inputs,))]
        if all(len(shape) != raw.ndim + 1 for shape in shapes):
            wanted = "(N, C, H, W)" if raw.ndim == 3 else "(N, C, D, H, W)"
            raise ValueError(
                f"the inputs have the shapes {shapes}, and none of them is a batch of images "
                f"{wanted}, on which a map can be shown; LayerLearnableCam gives the map at the "
                "layer's resolution"
            )

        def at(one: Tensor) -> Tensor:
            if one.ndim != raw.ndim + 1:
                return torch.zeros_like(one)
            full = saliency([raw], one.shape[2:]).to(one)
            return full[:, None].expand_as(one).clone()

        return tuple(at(one) for one in inputs) if isinstance(inputs, tuple) else at(inputs)
