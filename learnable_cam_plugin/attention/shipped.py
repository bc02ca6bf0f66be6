"""The attention that comes with the package, and what is told of where it is put."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from torch import Tensor, nn

from ..classifier import FrozenClassifier, ReshapeTransform, class_scores, tell_of_a_probability
from ..wording import warn
from .headed import pooled_logits
from .starts import is_identity, universal_beside
from .universal import UniversalAttention

UNIVERSAL = Path(__file__).parent / "universal.safetensors"


@cache
def _shipped() -> UniversalAttention:
    return UniversalAttention.load(UNIVERSAL)


def shipped_attention() -> UniversalAttention:
    """The attention of this package: trained beside several classifiers, for any other.

    It belongs to none: `LearnableCAM(model)` binds it to a model, and `universal_attention(model,
    None, images, trained=shipped_attention())` does so by hand. Beside what it was trained, its
    figures and limits: the model card, `attention/README.md`.
    """
    return _shipped().shared()


def shipped_beside(
    model: nn.Module,
    images: Tensor,
    named: Iterable[nn.Module | str],
    reshape_transform: ReshapeTransform | None,
    chosen: bool = False,
) -> tuple[FrozenClassifier, UniversalAttention]:
    """A classifier with the layers that a pass shows (`find_layers`), and the shipped attention
    bound to it. A head that is linearised on the images is told of, unless they were `chosen`."""
    classifier = FrozenClassifier.found(model, images, named, None, reshape_transform)
    shipped = shipped_attention()
    attention = universal_beside(classifier, images, shipped)
    attention.source = shipped.source
    if attention.head is None and not is_identity(attention.vectors) and not chosen:
        outputs, features = classifier.read(images.clone())  # it may work in place on them
        scores = class_scores(outputs)
        if not _is_exact(pooled_logits(attention, features, scores), scores):
            _tell_of_a_linearised_head(classifier, attention, images)
        if attention.num_classes == 1:
            tell_of_a_probability(classifier.model, scores)
    if attention.num_classes > 1 and _alike(attention.vectors):
        warn(
            f"all {attention.num_classes} classes of {type(model).__name__} have the same weights, "
            "as of ordered ones that differ by a threshold: no place tells them apart, and the map "
            "is of rounding. Pass attention=calibrate(model, target_layers, images), which shows "
            "what speaks for all of them"
        )
    return classifier, attention


def _tell_of_a_linearised_head(
    classifier: FrozenClassifier, attention: UniversalAttention, images: Tensor
) -> None:
    name, size = type(classifier.model).__name__, " x ".join(map(str, images.shape[2:]))
    why = (
        f"images of {size} leave the layer that the head of {name} reads one place, so they are "
        "explained at an earlier one, and what follows it"
        if classifier.one_place
        else f"the head of {name} is not applied place by place, so it"
    )
    warn(
        f"{why} was linearised on these {len(images)} images, once, by gradients of its "
        f"{attention.num_classes} classes: pass attention=universal_attention(model, None, images, "
        "trained=shipped_attention()), both of learnable_cam_plugin.attention, with 8 to 32 varied "
        "images, to choose them"
    )


def _is_exact(made: Tensor, scores: Tensor) -> bool:
    """Whether what the rows make of the pooled maps differs from image to image as the scores do:
    of a head that is linear, but written otherwise, as a convolution of 1 x 1."""
    moved = (scores - scores.mean(0)).abs().amax()
    return bool((made - scores).abs().amax() < 1e-4 * moved)


def _alike(rows: Tensor) -> bool:
    return bool((rows.amax(0) - rows.amin(0)).amax() < 1e-6 * rows.abs().amax())
