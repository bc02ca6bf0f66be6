"""What pytorch-grad-cam's targets ask for: a class, or a comparison of classes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .classifier import class_indices


def target_category(target: Any) -> int:
    """The class index that a pytorch-grad-cam target names.

    Raises:
        TypeError: the target names no class, so no learned map belongs to it.
    """
    category = getattr(target, "category", getattr(target, "main_category", None))
    if isinstance(category, Tensor | np.ndarray) and math.prod(category.shape) == 1:
        category = category.item()
    # A segmentation target has a category too, but of its mask's pixels, not of the image.
    named = not hasattr(target, "mask") and not isinstance(category, bool)
    if named and isinstance(category, (int, np.integer)):
        return int(category)
    raise TypeError(
        f"a {type(target).__name__} names no class, and LearnableCAM explains classes: use "
        "ClassifierOutputTarget(index), ClassifierOutputSoftmaxTarget, ClassifierOutputReST, "
        "BinaryClassifierOutputTarget, FinerWeightedTarget, or targets=None for the top class"
    )


def class_weights(targets: Sequence[Any] | None, classes: Tensor, scores: Tensor) -> Tensor:
    """The classes (N,) as they are; or, where a target compares classes (FinerWeightedTarget), the
    weights (N, K) of all: 1 of the main one, -alpha p_k / (sum of p) of those beside it. (GradCAM
    differentiates the p_k too; with one class beside the main one that is the same.)"""
    compared = [getattr(target, "comparison_categories", None) or [] for target in targets or ()]
    if not any(len(others) for others in compared):
        return classes
    weights = one_hot(classes, scores.shape[1]).float()
    for row, target, others, of_image in zip(weights, targets or (), compared, scores, strict=True):
        if len(others):
            given = torch.tensor([int(other) for other in others])
            columns = class_indices(given, scores.shape[1]).to(scores.device)
            shares = of_image.float()[columns].softmax(0)
            row.index_add_(0, columns, shares, alpha=-float(target.alpha))
    return weights
