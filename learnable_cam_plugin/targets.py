"""What pytorch-grad-cam's and Captum's targets ask for: a class, or a comparison of classes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.utils.model_targets import BinaryClassifierOutputTarget
from torch import Tensor
from torch.nn.functional import one_hot

from .classifier import class_indices


class ContrastTarget:
    """Why one class rather than another one: a target for every pytorch-grad-cam method.

    `LearnableCAM` shows what speaks for `category` and not for `against`, in its one pass; methods
    with gradients take those of the difference of the two scores.

    >>> ContrastTarget(2, 0)(torch.tensor([1.0, 5.0, 4.0]))
    tensor(3.)
    """

    def __init__(self, category: int, against: int) -> None:
        self.category, self.against = category, against

    def __call__(self, model_output: Tensor) -> Tensor:
        return model_output[..., self.category] - model_output[..., self.against]


def target_category(target: Any) -> int:
    """The class index that a pytorch-grad-cam target names.

    Raises:
        TypeError: the target names no class, so no learned map belongs to it.
    """
    category = getattr(target, "category", getattr(target, "main_category", None))
    if isinstance(category, Tensor | np.ndarray) and math.prod(category.shape) == 1:
        category = category.item()
    # A segmentation target has a category too, but of its mask's pixels, not of the image.
    named = not hasattr(target, "mask") and not isinstance(category, bool) and _asks_for(target)
    if named and isinstance(category, (int, np.integer)):
        return int(category)
    if isinstance(target, (int, np.integer)):
        raise TypeError(
            f"an int names no class, a target does: pass ClassifierOutputTarget({target})"
        )
    whole = category is None or isinstance(category, (int, np.integer))
    of = "" if whole else f" whose category is {category!r}, no integer,"
    raise TypeError(
        f"a {type(target).__name__}{of} names no class, and LearnableCAM explains classes: use "
        "ClassifierOutputTarget(index), ClassifierOutputSoftmaxTarget, ClassifierOutputReST, "
        "BinaryClassifierOutputTarget, FinerWeightedTarget, or targets=None for the top class"
    )


def _asks_for(target: Any) -> bool:
    """Whether more of a target's class is more of what it asks for: a user's own class may ask for
    less of it. (Those that cannot be called name a class, and no more.)"""
    category = getattr(target, "category", None)
    known = type(target).__module__.split(".")[0] in ("pytorch_grad_cam", __name__.split(".")[0])
    if known or not callable(target) or not isinstance(category, (int, np.integer)):
        return True
    scores = torch.zeros(2, max(abs(int(category)) + 1, 2))
    scores[1, int(category)] = 1
    try:
        low, high = (float(torch.as_tensor(target(one)).sum()) for one in scores)
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError):
        return True  # it is one of other scores than these
    return high > low


def one_each(targets: Any, count: int) -> list[Any]:
    """A target for each of `count` images, of a list that has one for each, or one for all; or of a
    target that is for all.

    >>> one_each(["a target"], 3)
    ['a target', 'a target', 'a target']
    """
    if not isinstance(targets, Sequence) and callable(targets):
        targets = [targets]
    if isinstance(targets, str) or not isinstance(targets, Sequence):
        raise TypeError(
            "targets must be a list with one target an image, such as "
            f"[ClassifierOutputTarget(index)] * {count}, or one for all, got a "
            f"{type(targets).__name__}"
        )
    if len(targets) not in (1, count):
        raise ValueError(f"{count} images need {count} targets, or one, got {len(targets)}")
    return list(targets) * (count if len(targets) == 1 else 1)


def classes_and_signs(
    targets: Sequence[Any] | None, scores: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The class (N,) that each target names, of scores (N, K), and the sign of its map (N,); None
    where none turns it. Without targets the top class; a single score's sign is its class."""
    num_classes = scores.shape[1]
    if targets is None:
        if num_classes == 1:
            return torch.zeros_like(scores[:, 0], dtype=torch.long), scores[:, 0].sign()
        return scores.argmax(1), None
    categories = [target_category(target) for target in targets]
    binary = [isinstance(target, BinaryClassifierOutputTarget) for target in targets]
    if num_classes == 1 and any(binary):
        each = list(zip(binary, categories, strict=True))
        signs = torch.tensor([-1.0 if b and c != 1 else 1.0 for b, c in each])
        classes = class_indices(torch.tensor([0 if b else c for b, c in each]), 1)
        return classes.to(scores.device), signs.to(scores.device)
    given = torch.tensor(categories, device=scores.device)
    within = min(categories) >= 0 and max(categories) < num_classes  # which tensors tell slower
    return given if within else class_indices(given, num_classes), None


def other_classes(targets: Sequence[Any] | None, classes: Tensor, count: int) -> Tensor | None:
    """The class (N,) that a `ContrastTarget` of each image holds its own, `classes`, against; None
    where there is no such target.

    Raises:
        ValueError: only some of the targets are one; or a class is held against itself.
    """
    others: list[Any] = [getattr(target, "against", None) for target in targets or ()]
    if all(other is None for other in others):
        return None
    if any(other is None for other in others):
        raise ValueError(
            "some of the targets are a ContrastTarget and some are not: pass one of the kind for "
            "every image, and the others in a call of their own"
        )
    against = class_indices(torch.tensor([int(other) for other in others]), count).to(classes)
    if bool((against == classes).any()):
        same = classes[against == classes].tolist()
        raise ValueError(f"a class cannot be held against itself, and {same} are")
    return against


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


def contrasted(target: Any, count: int, num_classes: int) -> tuple[Any, Tensor | None]:
    """Of a target of Captum's that is (A, B), or a list of such: that of the As, and the Bs
    (count,); else the target, and None.

    >>> contrasted([(3, 1), (-1, 0)], 2, 5)
    ([3, -1], tensor([1, 0]))
    """
    pairs = target if isinstance(target, list) else [target]
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs) or not pairs:
        return target, None
    firsts, seconds = ([pair[place] for pair in pairs] for place in (0, 1))
    if not isinstance(target, list):
        firsts, seconds = firsts[0], seconds[0]
    one, other = (target_classes(given, count, num_classes) for given in (firsts, seconds))
    if bool((one == other).any()):
        raise ValueError(f"a class cannot be held against itself, as in target={target}")
    return firsts, other


def target_classes(target: Any, count: int, num_classes: int) -> Tensor:
    """The class of each sample, (count,), that a target of Captum's names; one below 0 counts from
    the last. Missing and malformed targets are refused in Captum's words.

    >>> target_classes([(1,), (-1,)], 2, 5)
    tensor([1, 4])
    """
    if target is None:
        assert num_classes == 1, (
            "Target not provided when necessary, cannot take gradient with respect to "
            "multiple outputs."
        )
        target = 0
    if isinstance(target, Tensor):
        given = target.dtype
        whole = not (given.is_floating_point or given.is_complex or given == torch.bool)
        assert whole, f"Target element type {given} is not valid: class indices are integers."
        one_each = target.ndim == 1 and len(target) == count
        one_for_all = target.numel() == 1
        assert one_each or one_for_all, (
            f"Tensor target dimension {target.shape} is not valid. {(count, num_classes)}"
        )
        target = target.flatten().tolist() * (1 if one_each else count)
    elif isinstance(target, (int, tuple)):
        target = [target] * count
    assert isinstance(target, list), f"Target type {type(target)} is not valid."
    assert len(target) == count, "Target list length does not match output!"
    columns = [one if isinstance(one, tuple) else (one,) for one in target]
    for column in columns:
        assert len(column) == 1, "Cannot choose target column with output shape (N, K)."
        kind = type(column[0])
        whole = issubclass(kind, int) and kind is not bool
        assert whole, f"Target element type {kind} in list is not valid."
    return class_indices(torch.tensor(columns)[:, 0], num_classes)


def class_list(classes: Any) -> list[int]:
    """Class indices as a list.

    Raises:
        TypeError: it is no sequence of integers, nor a vector of them.
        ValueError: it is empty.

    >>> class_list(torch.tensor([2, -1])), class_list((3,))
    ([2, -1], [3])
    """
    given = classes.tolist() if isinstance(classes, (Tensor, np.ndarray)) else classes
    listed: list[Any] = [None] if isinstance(given, (str, int)) else list(given)
    if any(isinstance(c, bool) or not isinstance(c, (int, np.integer)) for c in listed):
        raise TypeError(f"classes must be a list of integers, got {classes!r}")
    if not listed:
        raise ValueError("classes is empty: name one at least, or leave it out")
    return [int(c) for c in listed]
