"""Attention mechanisms that know the classes by the classifier head's own weights."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoint import CheckpointError
from ..classifier import core, core_name, evaluating, of_volumes
from ..saliency import compiling
from .base import AttentionMechanism


class HeadedAttention(AttentionMechanism):
    """One mechanism for all classes, several layers fused, reading the head's weight of each class.

    Args:
        channels: layer name -> C; the last one is what the head reads.
        num_classes: K.
        head: name of the linear layer of the classifier whose weight (K, C) and bias are read; None
            if they are saved with the attention, as for a head of another shape (see `calibrate`).
        width: channels of its convolutions.

    Attributes:
        vectors, offsets: that weight and bias, or what stands for them.
        scores_are_logits: whether the classifier's scores are known to be that layer's output, and
            its input the pooled maps: then a mechanism that takes `logits` need not compute them.
    """

    fuses = True
    scores_are_logits = False
    vectors: Tensor
    offsets: Tensor

    def __init__(
        self, channels: Mapping[str, int], num_classes: int, head: str | None, width: int
    ) -> None:
        super().__init__(channels, num_classes)
        if type(self) is HeadedAttention:
            raise TypeError(
                "a HeadedAttention makes no maps by itself; take one that derives from it"
            )
        if not isinstance(head, (str, type(None))):
            raise ValueError(f"head must be a layer's name or None, got {head!r}")
        if type(width) is not int or width < 1:
            raise ValueError(f"width must be an integer of at least 1, got {width!r}")
        self.width = width
        self.head, self._head_read = head, head is None
        saved = head is None
        # of a classifier's head there is nothing before it is read, however many classes are named
        rows, last = num_classes if saved else 0, list(channels.values())[-1]
        self.register_buffer("vectors", torch.zeros(rows, last), persistent=saved)
        self.register_buffer("offsets", torch.zeros(rows), persistent=saved)

    def read_head(self, vectors: Tensor, offsets: Tensor | None) -> None:
        """Take the class vectors (K, C) and offsets (K,) that the classes are known by."""
        expected = (self.num_classes, list(self.channels.values())[-1])
        if tuple(vectors.shape) != expected:
            raise ValueError(
                f"the head's weight is {tuple(vectors.shape)}, the attention was made for "
                f"{expected}: {self.num_classes} classes"
            )
        self._head_read, self.scores_are_logits = True, False
        self.vectors = vectors.detach()
        self.offsets = vectors.new_zeros(len(vectors)) if offsets is None else offsets.detach()

    def attach(self, model: nn.Module, layers: Sequence[str]) -> None:
        """Check the model, as every mechanism does, and read its head."""
        super().attach(model, layers)
        if of_volumes(core(model)):
            raise ValueError(
                f"the {type(core(model)).__name__} convolves volumes (N, C, D, H, W), and a "
                f"{type(self).__name__} is for images: take attention='head' (classic CAM), "
                "calibrate, or recipe='l-cam-img', which have a row of weights a class"
            )
        if self.head is not None:
            self.head = core_name(model, self.head)
            self._read_of(model)

    def follow(self, model: nn.Module) -> None:
        """Read the model's head anew, if another layer, or another weight, is there now."""
        if self.head is None:
            return
        try:
            own = core(model).get_submodule(self.head)._parameters
        except AttributeError:  # there is no such layer any more
            own = {}
        weight, bias = own.get("weight"), own.get("bias")  # none: they are computed
        same = weight is not None and weight.data_ptr() == self.vectors.data_ptr()
        if not same or (bias is not None and bias.data_ptr() != self.offsets.data_ptr()):
            self._read_of(model)

    def _read_of(self, model: nn.Module) -> None:
        """Read the linear layer `head` of the model; CheckpointError if it is none that fits."""
        assert self.head is not None, "the rows that are saved are no layer's"
        try:
            linear = core(model).get_submodule(self.head)
            with evaluating(linear):  # a weight that is computed may be another in training
                self.read_head(linear.weight, linear.bias)  # type: ignore[arg-type]
        except (AttributeError, ValueError) as error:
            raise CheckpointError(
                f"the attention reads the linear layer '{self.head}' of its classifier, and "
                f"the model's is not it: {error}"
            ) from error

    def maps(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """The feature maps (N, C, h, w) of all layers, checked, in the mechanism's precision."""
        missing = [name for name in self.channels if name not in features]
        if missing:
            raise ValueError(f"the attention needs the feature maps of {missing} too")
        if not self._head_read:
            raise ValueError(
                "this attention reads the classifier's head, which it has not seen yet: call "
                "attention.attach(model, layers); LearnableCAM and the trainer do so with their own"
            )
        for name in self.channels:
            self.check_features(name, features[name])
            if features[name].ndim != 4:
                raise ValueError(
                    f"layer '{name}' gives {tuple(features[name].shape)}; this attention is for "
                    "feature maps (N, C, h, w). Use recipe='l-cam-img' for volumes."
                )
        precision = self.precision
        return [features[name].to(precision) for name in self.channels]

    @property
    def precision(self) -> torch.dtype:
        """Of its weights."""
        return next(self.parameters()).dtype

    @torch.no_grad()
    def strength(
        self, features: Mapping[str, Tensor], classes: Tensor, against: Tensor | None = None
    ) -> Tensor:
        """How much the classifier sees of a class where it sees most of it: on one scale for all
        classes and images, as the raw maps are not, whose brightness is of each its own.

        The head is applied to each place alone, and the largest of the probabilities taken that it
        gives to the class; held `against` another class, of those of the two.

        Args:
            features: as of `forward`.
            classes, against: (N,) or (N, M), integers.

        Returns:
            of their shape, in [0, 1].
        """
        last = self.maps(features)[-1].flatten(2)
        vectors, offsets = self.vectors.to(last), self.offsets.to(last)[:, None]
        flat = classes.view(len(classes), -1)
        if against is not None:
            other = against.view_as(flat)
            difference = (vectors[flat] - vectors[other]) @ last
            found = (difference + offsets[flat] - offsets[other]).sigmoid()
        else:
            scores = vectors @ last + offsets
            one = len(vectors) == 1  # and class 1 is what speaks against it
            shares = torch.cat([scores, -scores], 1).sigmoid() if one else scores.softmax(1)
            found = shares.gather(1, flat[..., None].expand(-1, -1, last.shape[2]))
        return found.amax(2).view(classes.shape)


def pooled_logits(
    attention: HeadedAttention, features: Mapping[str, Tensor], like: Tensor
) -> Tensor:
    """(N, K), what the head that a mechanism reads makes of the mean of the last feature maps, in
    the precision of `like`."""
    pooled = list(features.values())[-1].mean((2, 3)).to(like)
    return F.linear(pooled, attention.vectors.to(like), attention.offsets.to(like))


def gives_logits(
    attention: AttentionMechanism, features: Mapping[str, Tensor], scores: Tensor
) -> bool:
    """Whether a mechanism that takes the head's logits would compute, from these feature maps, what
    the classifier's scores (N, K) are."""
    takes = "logits" in signature(attention.forward).parameters
    if not takes or not isinstance(attention, HeadedAttention):
        return False
    logits = pooled_logits(attention, features, scores)
    close = 1e-4 * float(scores.abs().max())
    return logits.shape == scores.shape and torch.allclose(logits, scores, rtol=1e-4, atol=close)


def known_of(attention: AttentionMechanism, scores: Tensor) -> dict[str, Tensor]:
    """What of the classifier's scores (N, K) a mechanism is given, by name: the logits, where that
    is what they are. Of another precision, as of a pass under autocast, they are not."""
    if not getattr(attention, "scores_are_logits", False):
        return {}
    vectors: Any = attention.vectors
    return {"logits": scores} if scores.dtype == vectors.dtype else {}


def raw_class_maps(
    attention: AttentionMechanism, features: Mapping[str, Tensor], classes: Tensor, scores: Tensor
) -> list[Tensor]:
    """The raw maps, float32, of classes (N,), as a mechanism gives them; of several an image,
    (N, M), with maps (N, M, ...), of any mechanism. `scores` are the classifier's (N, K)."""
    if classes.ndim == 1 or classes.is_floating_point() or attention.several:
        found = attention(features, classes, **known_of(attention, scores))
        return [maps.float() for maps in found]
    if not compiling():  # one at a time: all at once are as many copies of the maps
        each = [attention(features, one) for one in classes.unbind(1)]
        return [torch.stack(maps, 1).float() for maps in zip(*each, strict=True)]
    repeated = {
        name: maps[:, None].expand(-1, classes.shape[1], *maps.shape[1:]).flatten(0, 1)
        for name, maps in features.items()
    }
    found = attention(repeated, classes.flatten())
    return [maps.float().unflatten(0, classes.shape) for maps in found]
