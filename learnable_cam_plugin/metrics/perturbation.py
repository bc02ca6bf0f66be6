"""Does the class fade, and come back, in the map's order of pixels? Insertion, deletion, ROAD."""

from collections.abc import Sequence
from functools import partial

import torch
from pytorch_grad_cam.metrics.road import ROADCombined
from torch import Tensor, nn

from ..masking import Normalization, background
from .confidence import check_explained, confidence


def _curve_area(
    model: nn.Module,
    before: Tensor,
    after: Tensor,
    saliency: Tensor,
    classes: Tensor,
    steps: int,
    batch_size: int,
) -> Tensor:
    """Area (N,) under the class probability while `before` turns into `after`, highest pixel first.

    At point k of `steps` + 1 exactly floor(k * P / steps) of the P pixels are turned. The images at
    all their points go through the model together, `batch_size` at a time.
    """
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be at least 1, got {steps} and {batch_size}")
    flat = saliency.flatten(1)
    pixels = flat.shape[1]
    # the inverse of the order of the pixels: the rank of each
    ranks = flat.argsort(dim=1, descending=True, stable=True).argsort(1)
    ranks = ranks.view(len(saliency), 1, *saliency.shape[1:]).to(before.device)
    turned = torch.arange(steps + 1, device=before.device) * pixels // steps
    jobs = torch.arange(len(saliency) * (steps + 1), device=before.device)
    scores = []
    for job in jobs.split(batch_size):
        image, point = job // (steps + 1), job % (steps + 1)
        done = ranks[image] < turned[point].view(-1, *(1,) * (ranks.ndim - 1))
        mixed = torch.where(done, after[image], before[image])
        scores.append(confidence(model, mixed, classes.to(image.device)[image]))
    curves = torch.cat(scores).view(len(saliency), steps + 1)
    return torch.trapezoid(curves, turned.to(curves) / pixels, dim=1)


def insertion(
    model: nn.Module,
    images: Tensor,
    saliency: Tensor,
    classes: Tensor,
    normalization: Normalization,
    steps: int = 28,
    filling: str = "blur",
    batch_size: int = 64,
) -> Tensor:
    """Area (N,) under the class probability as pixels are added, in [0, 1]; higher is better.

    RISE (Petsiuk, Das, Saenko, BMVC 2018, arXiv 1806.07421), section 4.2: from the filling to the
    image, in order of decreasing saliency. Pixels with the same saliency come in reading order, so
    a constant map scores as the image uncovered line by line from the top.

    Args:
        model, images, saliency, classes, normalization: as in `masked_confidence`.
        steps: each adds a share of 1 / steps of the pixels; RISE's is 224 pixels, one row's worth.
        filling: what is not added yet, one of `FILLINGS`. RISE starts from a blur too, which draws
            no edges of its own, but a narrower one (11 pixels, sigma 5, of 224; `background` has
            14), of which a classifier knows more: compare its published areas with none of these.
        batch_size: images, at any point of the curve, that the model sees at once.
    """
    check_explained(images, saliency, classes, normalization)
    start = background(images, normalization, filling)
    return _curve_area(model, start, images, saliency, classes, steps, batch_size)


def deletion(
    model: nn.Module,
    images: Tensor,
    saliency: Tensor,
    classes: Tensor,
    normalization: Normalization,
    steps: int = 28,
    filling: str = "black",
    batch_size: int = 64,
) -> Tensor:
    """Area (N,) under the class probability as pixels are removed, in [0, 1]; lower is better.

    The counterpart of `insertion`: from the image to the filling, in order of decreasing saliency.
    RISE fills with a constant: black in [0, 1] pixels here, the mean of ImageNet there.
    """
    check_explained(images, saliency, classes, normalization)
    end = background(images, normalization, filling)
    return _curve_area(model, images, end, saliency, classes, steps, batch_size)


def _distinct_ranks(one: Tensor, seed: int) -> Tensor:
    """A map (H, W) -> its pixels' ranks 0 ... HW - 1, equal pixels in an order drawn by `seed`."""
    flat = one.flatten()
    shuffled = torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))
    order = shuffled[flat[shuffled].argsort(stable=True)]
    return order.argsort().to(flat).view_as(one)


def _as_given(model: nn.Module, dtype: torch.dtype, classes: Tensor, images: Tensor) -> Tensor:
    """`confidence` (N,) on float32 images, handed on as those that were given."""
    return confidence(model, images.to(dtype), classes)


def road(
    model: nn.Module,
    images: Tensor,
    saliency: Tensor,
    classes: Tensor,
    percentiles: Sequence[float] = (20, 40, 60, 80),
    seed: int = 0,
) -> Tensor:
    """Remove and debias (N,): what the least relevant pixels cost less than the most relevant.

    ROAD (Rong et al., ICML 2022, arXiv 2202.00449), as pytorch-grad-cam's `ROADCombined`: pixels
    are removed by interpolating them from their neighbours, with a little noise, and the score is
    (p without the least relevant - p without the most relevant) / 2, the mean over `percentiles`,
    in [-0.5, 0.5]; higher is better.

    The library removes every pixel that is not below the percentile. With many equal pixels (a
    ReLU's zeros) that can be all of them, which leaves nothing to interpolate from: a grey image,
    or NaN. Here exactly the share asked for is removed: the library sees the pixels' ranks, equal
    pixels in random order. Maps without equal pixels score as there; a constant map scores 0.

    Args:
        model, images, saliency, classes: as in `masked_confidence`.
        percentiles: the shares of the pixels left, in percent, each in [1, 100).
        seed: of the noise and of the order of equal pixels, the same for each image, so that an
            image's score does not depend on its batch. torch's own random numbers stay untouched.
    """
    check_explained(images, saliency, classes)
    if images.ndim != 4:
        raise ValueError(f"ROAD is for images (N, C, H, W), got {tuple(images.shape)}")
    if not percentiles or not all(1 <= percentile < 100 for percentile in percentiles):
        given = tuple(percentiles)
        raise ValueError(f"percentiles must lie in [1, 100), in percent, got {given}")
    metric = ROADCombined(percentiles=list(percentiles))
    # the library compares in the maps' own type, which must hold the ranks exactly
    maps = saliency.detach().cpu().double()
    scores = []
    with torch.random.fork_rng(devices=[]):
        for image, one, label in zip(images.detach(), maps, classes, strict=True):
            if one.min() == one.max():
                scores.append(0.0)
                continue
            torch.default_generator.manual_seed(seed)  # the CPU's only, which fork_rng restores
            ranks = _distinct_ranks(one, seed)[None].numpy()
            # the library's own target is a softmax, of whatever the model gives; and it
            # interpolates in float32
            shown = partial(_as_given, model, images.dtype, label[None])
            scores.append(float(metric(image[None].float(), ranks, [Tensor.cpu], shown)[0]))
    return torch.tensor(scores)
