"""Average drop and increase in confidence: is what the map shows enough for the class?

The protocol is the L-CAM paper's (Gkartzonika et al., ECCV Workshops 2022, section 4.2): the
predicted class is explained, the saliency masks the [0, 1] image, and the class probability of the
masked image is compared with that of the image. The measures are Grad-CAM++'s (Chattopadhay et
al., WACV 2018).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..classifier import check_one_class_each, class_scores, evaluating, probabilities
from ..masking import Normalization, background

KEEP = (1.0, 0.5, 0.15)
_ROUNDING = 1e-3  # a softmax in half precision can pass 1 by this much


def check_saliency(saliency: Tensor) -> Tensor:
    """Maps (N, H, W) or (N, D, H, W) in [0, 1]; else a clear error."""
    if not isinstance(saliency, Tensor):
        kind = type(saliency).__name__
        raise TypeError(f"saliency must be a torch.Tensor, got {kind}: pass torch.from_numpy(maps)")
    if saliency.ndim not in (3, 4) or saliency.numel() == 0:
        shape = tuple(saliency.shape)
        raise ValueError(f"saliency has shape {shape}; (N, H, W) with N > 0 is needed")
    if not saliency.is_floating_point():
        kind = str(saliency.dtype).removeprefix("torch.")
        how = "maps.float() / 255" if saliency.dtype == torch.uint8 else "maps.float()"
        raise ValueError(f"saliency is {kind}; numbers in [0, 1] are needed: pass {how}")
    if not bool(torch.isfinite(saliency).all()):
        raise ValueError("saliency holds NaN or infinity")
    low, high = float(saliency.min()), float(saliency.max())
    if low < 0 or high > 1:
        where = f"[{low:.3g}, {high:.3g}], not [0, 1]"
        raise ValueError(f"saliency lies in {where}: scale each map with min_max first")
    return saliency


def check_explained(
    images: Tensor, saliency: Tensor, classes: Tensor, normalization: Normalization | None = None
) -> None:
    """Images (N, C, H, W), their maps (N, H, W) and classes (N,) that fit, and the normalisation
    that the images went through, where a metric acts on pixels; else a clear error."""
    check_saliency(saliency)
    if len(saliency) != len(images) or saliency.shape[1:] != images.shape[2:]:
        given, size = tuple(saliency.shape), tuple(images.shape)
        raise ValueError(f"saliency {given} does not fit images {size}")
    check_one_class_each(images, classes)
    if normalization is not None:
        normalization.check(images)


def _zero_lowest(flat: Tensor, order: Tensor, fraction: float) -> Tensor:
    """`flat` (N, P) with the first (1 - fraction) of `order` (N, P), ascending, set to 0."""
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of pixels kept must be in (0, 1], got {fraction}")
    return flat.scatter(1, order[:, : round((1 - fraction) * flat.shape[1])], 0.0)


def keep_top(saliency: Tensor, fraction: float) -> Tensor:
    """Set the lowest (1 - fraction) of each map's pixels to 0, an exact count; keep the rest.

    Of pixels with the same value the first in reading order are set to 0 first.

    >>> keep_top(torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]), 0.5)
    tensor([[[0.0000, 0.0000],
             [0.3000, 0.4000]]])
    """
    flat = check_saliency(saliency).flatten(1)
    return _zero_lowest(flat, flat.argsort(dim=1, stable=True), fraction).view_as(saliency)


def _checked(confidence: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
    confidence, masked = torch.as_tensor(confidence), torch.as_tensor(masked)
    if confidence.ndim != 1 or confidence.shape != masked.shape or not len(confidence):
        shapes = f"{tuple(confidence.shape)} and {tuple(masked.shape)}"
        raise ValueError(f"confidences must be two vectors (N,) of the same N > 0, got {shapes}")
    for name, values in (("confidence", confidence), ("masked", masked)):
        bad = ~((values >= 0) & (values <= 1 + _ROUNDING))  # NaN is neither
        if bool(bad.any()):
            raise ValueError(
                f"{name} must be probabilities in [0, 1], got {float(values[bad][0]):.3g} for "
                f"image {int(bad.nonzero()[0])}: use the softmax of the scores, of finite images"
            )
    return confidence.double(), masked.double()


def drops(confidence: Tensor, masked: Tensor) -> Tensor:
    """100 * max(0, p - p_masked) / p of each image (N,), in percent, [0, 100]; lower is better.

    Both are class probabilities (N,), of the images and of the masked images. A ValueError says
    which is NaN or no probability, or which p is 0, which cannot drop.

    >>> drops(torch.tensor([0.8, 0.5]), torch.tensor([0.4, 0.9])).tolist()
    [50.0, 0.0]
    """
    p, q = _checked(confidence, masked)
    if not bool((p > 0).all()):
        raise ValueError(
            f"the confidence of image {int((p == 0).nonzero()[0])} is 0, which cannot drop: leave "
            "the image out, or explain a class that the model gives some probability"
        )
    return (p - q).clamp(min=0) / p * 100


def increases(confidence: Tensor, masked: Tensor) -> Tensor:
    """100 where the masked image is the more confident one, else 0, (N,); higher is better.

    >>> increases(torch.tensor([0.8, 0.5]), torch.tensor([0.4, 0.9])).tolist()
    [0.0, 100.0]
    """
    p, q = _checked(confidence, masked)
    return (q > p).double() * 100


def average_drop(confidence: Tensor, masked: Tensor) -> float:
    """AD, the mean of `drops`, in percent; lower is better.

    >>> average_drop(torch.tensor([0.8, 0.5]), torch.tensor([0.4, 0.9]))
    25.0
    """
    return round(float(drops(confidence, masked).mean()), 6)


def increase_in_confidence(confidence: Tensor, masked: Tensor) -> float:
    """IC, the mean of `increases`, in percent; higher is better.

    >>> increase_in_confidence(torch.tensor([0.8, 0.5]), torch.tensor([0.4, 0.9]))
    50.0
    """
    return float(increases(confidence, masked).mean())


@torch.no_grad()
def confidence(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Probability (N,) of `classes` (N,), in [0, 1], as `classifier.probabilities` has it; errors
    for NaN, and no such class."""
    check_one_class_each(images, classes)
    with evaluating(model):
        scores = class_scores(model(images))
    low, high, count = int(classes.min()), int(classes.max()), scores.shape[1]
    if not 0 <= low <= high < count:
        raise ValueError(
            f"classes lie in [{low}, {high}], but the model scores classes 0 to {count - 1}"
        )
    found = probabilities(scores).gather(1, classes[:, None].to(scores.device))[:, 0]
    if not bool(torch.isfinite(found).all()):
        raise ValueError("the model's scores hold NaN or infinity: no probability to measure by")
    return found


def masked_confidence(
    model: nn.Module,
    images: Tensor,
    saliency: Tensor,
    classes: Tensor,
    normalization: Normalization,
    keep: Sequence[float] = KEEP,
    filling: str | Tensor = "black",
) -> dict[float, Tensor]:
    """Fraction kept -> probability (N,) of `classes` on the images masked by `saliency`.

    Args:
        model: the classifier, giving scores (N, K).
        images: (N, C, H, W), normalised.
        saliency: (N, H, W) in [0, 1].
        classes, normalization: (N,); what the images went through: masks act on [0, 1] pixels.
        keep: fractions of the pixels; the paper's 100 %, 50 % and 15 %.
        filling: what shows where the mask is 0, one of `FILLINGS`, or images of their own (N, C,
            H, W), normalised; the paper's is black.

    A map of zeros leaves nothing but the filling; one of ones leaves the image at 100 %.
    """
    check_explained(images, saliency, classes, normalization)
    flat = saliency.flatten(1)
    order = flat.argsort(dim=1, stable=True).to(images.device)
    flat = flat.to(images)  # after it: half precision makes pixels equal that were not
    behind = filling if isinstance(filling, Tensor) else background(images, normalization, filling)

    found = {}
    for fraction in keep:
        mask = _zero_lowest(flat, order, fraction).view_as(saliency)[:, None]
        found[fraction] = confidence(model, torch.lerp(behind, images, mask), classes)
    return found
