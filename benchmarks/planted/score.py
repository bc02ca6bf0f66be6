"""Whether what is said of planted errors is what was planted."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import Tensor, nn

from learnable_cam_plugin import ContrastTarget, LearnableCAM
from learnable_cam_plugin.analysis.analysis import Analysis
from learnable_cam_plugin.analysis.case import CAUSES, Case
from learnable_cam_plugin.masking import FILLINGS, background
from learnable_cam_plugin.metrics import energy_inside, pointing_hit
from learnable_cam_plugin.saliency import min_max, resize

from .kinds import Planted
from .network import probabilities
from .scenes import NORMALIZATION, SIZE

Row = dict[str, Any]


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), in [0, 1].

    >>> [round(end, 2) for end in wilson(9, 10)]
    [0.6, 0.98]
    """
    if not count:
        return 0.0, 1.0
    share, much = hits / count, z * z / count
    middle = (share + much / 2) / (1 + much)
    half = z * math.sqrt(share * (1 - share) / count + much / (4 * count)) / (1 + much)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(hits: int, count: int) -> str:
    """In percent, with its interval, as "95 [84, 99]"."""
    if not count:
        return ""
    low, high = (100 * end for end in wilson(hits, count))
    return f"{100 * hits / count:.0f} [{low:.0f}, {high:.0f}]"


def confusion(planted: Sequence[Planted], cases: Mapping[str, Case]) -> list[Row]:
    """A row a planted cause: how many errors, how often each cause is named, the share named
    rightly."""
    rows = []
    for cause in CAUSES:
        named = Counter(cases[one.name].cause for one in planted if one.cause == cause)
        if count := sum(named.values()):
            right = share(named[cause], count)
            rows.append(
                {"planted": cause, "images": count}
                | {name: named[name] for name in CAUSES}
                | {"named rightly, %": right}
            )
    return rows


def wrongly_named(planted: Sequence[Planted], cases: Mapping[str, Case]) -> list[Row]:
    """Of each error whose cause is named wrongly, the conditions of the planted cause that do not
    hold, and those of the cause that is named instead."""
    rows = []
    for one in planted:
        verdict = cases[one.name].verdict
        if verdict is None or verdict.cause == one.cause:
            continue
        failed = [c for c in verdict.checks.get(one.cause, ()) if not c.holds]
        instead = verdict.checks.get(verdict.cause, ())
        rows.append(
            {"image": one.name, "planted": one.cause, "named": verdict.cause}
            | {"does not hold": "; ".join(map(_said, failed))}
            | {"holds instead": "; ".join(map(_said, instead))}
        )
    return rows


def _said(check: Any) -> str:
    sign = ">=" if check.above else "<="
    return f"{check.name}: {check.value:.3g} ({sign} {check.bound:.3g})"


def contexts_on_correct(planted: Sequence[Planted], analysis: Analysis) -> Row:
    """How many of the correct images are named for a context, apart from those with the watermark,
    whose class does rest on it."""
    named = {name for names in analysis.contexts.values() for name in names}
    correct = [one for one in planted if one.cause == "correct"]
    clear = [one for one in correct if "watermark" not in one.regions]
    marked = [one for one in correct if "watermark" in one.regions]
    hits = [sum(one.name in named for one in part) for part in (clear, marked)]
    return {
        "without the watermark": f"{hits[0]} of {len(clear)}",
        "without, %": share(hits[0], len(clear)),
        "with it": f"{hits[1]} of {len(marked)}",
        "with, %": share(hits[1], len(marked)),
    }


def erased(planted: Sequence[Planted], model: nn.Module) -> list[Row]:
    """What erasing the planted region itself would do, a row a kind: how often the label wins then,
    with each filling, and with any: the most that a test of the kind can show."""
    known = {
        "several objects": "item 1",
        "near-identical classes": "part",
        "context": "watermark",
        "something in front": "bar",
    }
    rows = []
    for kind, region in known.items():
        of_kind = [one for one in planted if one.cause == kind]
        if not of_kind:
            continue
        images, labels = _stacked(of_kind)
        hidden = torch.stack([torch.from_numpy(one.regions[region]) for one in of_kind])[:, None]
        right = {}
        for filling in FILLINGS:
            ground = background(images, NORMALIZATION, filling)
            won = probabilities(model, torch.where(hidden, ground, images)).argmax(1)
            right[filling] = won == labels
        any_of = torch.stack(list(right.values())).any(0)
        rows.append(
            {"planted": kind, "images": len(of_kind), "area, %": 100 * float(hidden.float().mean())}
            | {
                name: share(int(one.sum()), len(one))
                for name, one in (right | {"any": any_of}).items()
            }
        )
    return rows


def _stacked(planted: Sequence[Planted]) -> tuple[Tensor, Tensor]:
    images = torch.stack([one.image for one in planted])
    return images, torch.tensor([one.label for one in planted])


def _finer(one: int, other: int) -> object:
    return FinerWeightedTarget(one, [other], alpha=1.0)


def _plain(one: int, other: int) -> object:
    return ClassifierOutputTarget(one)


def at_the_part(planted: Sequence[Planted], model: nn.Module, layer: nn.Module) -> list[Row]:
    """The pointing game and the energy on the part in which the look-alikes differ, a row a method:
    of the predicted class rather than the other, and of the other rather than the predicted."""
    rings = [one for one in planted if one.cause == "near-identical classes"]
    if not rings:
        return []
    images, labels = _stacked(rings)
    predicted = torch.tensor([one.predicted for one in rings])
    parts = torch.stack([torch.from_numpy(one.regions["part"]) for one in rings])
    methods: dict[str, tuple[BaseCAM, Any]] = {
        "LearnableCAM, contrast": (LearnableCAM(model), ContrastTarget),
        "LearnableCAM": (LearnableCAM(model), _plain),
        "FinerCAM": (GradCAM(model, [layer]), _finer),
        "Grad-CAM": (GradCAM(model, [layer]), _plain),
    }
    rows = []
    for name, (cam, target) in methods.items():
        row: Row = {"method": name}
        for title, one, other in (("predicted", predicted, labels), ("label", labels, predicted)):
            targets = [target(int(a), int(b)) for a, b in zip(one, other, strict=True)]
            with cam:
                maps = torch.from_numpy(cam(images, targets))
            row |= _pointed(title, maps, parts)
        rows.append(row)
    chance = float(parts.float().mean())
    rows.append({"method": f"by chance {100 * chance:.1f} % (the part's area)"})
    return rows


def contrasts_at_the_part(planted: Sequence[Planted], cases: Mapping[str, Case]) -> Row:
    """The same of the maps that the analysis shows."""
    rings = [one for one in planted if one.cause == "near-identical classes"]
    parts = torch.stack([torch.from_numpy(one.regions["part"]) for one in rings])
    row: Row = {"method": "the analysis's contrasts"}
    for title, field in (("predicted", "contrast"), ("label", "reverse")):
        raw = [torch.from_numpy(getattr(cases[one.name].maps, field)) for one in rings]
        row |= _pointed(title, min_max(resize(torch.stack(raw), (SIZE, SIZE))), parts)
    return row


def _pointed(title: str, maps: Tensor, parts: Tensor) -> Row:
    hits = pointing_hit(maps, parts)
    return {
        f"{title}: pointing, %": share(int(hits.sum()), len(hits)),
        f"{title}: energy, %": float(100 * energy_inside(maps, parts).mean()),
    }
