"""Whether what is said of planted errors is what was planted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from learnable_cam_plugin import ContrastTarget, LearnableCAM
from learnable_cam_plugin.analysis import (
    CAUSES,
    Analysis,
    Case,
    Hierarchy,
    Photo,
    Thresholds,
    contexts,
    verdict,
)
from learnable_cam_plugin.metrics import pointing_hit, wilson
from learnable_cam_plugin.saliency import min_max, resize

from .kinds import LOOK_ALIKES, Planted, wins_without
from .scenes import ALIKE, CLASSES, SIZE

Row = dict[str, Any]
_NEAR = round(15 / 224 * SIZE)


def share(hits: int, count: int) -> str:
    """In percent, with its interval, as "95 [84, 99]"."""
    if not count:
        return ""
    mean, low, high = (100 * value for value in wilson(hits, count))
    return f"{mean:.0f} [{low:.0f}, {high:.0f}]"


def confusion(planted: Sequence[Planted], cases: Mapping[str, Case]) -> list[Row]:
    """A row a kind of errors: how many, how often each cause is named, the share named
    rightly."""
    rows = []
    for kind, of_kind in _by_kind(planted).items():
        named = Counter(cases[one.name].cause for one in of_kind)
        right = share(named[of_kind[0].cause], len(of_kind))
        rows.append(
            {"planted": kind, "images": len(of_kind)}
            | {name: named[name] for name in CAUSES}
            | {"named rightly, %": right}
        )
    return rows


def _by_kind(planted: Sequence[Planted]) -> dict[str, list[Planted]]:
    found: dict[str, list[Planted]] = {}
    for one in planted:
        if one.cause != "correct":
            found.setdefault(one.kind, []).append(one)
    return found


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
            {"image": one.name, "planted": one.kind, "named": verdict.cause}
            | {"does not hold": "; ".join(map(_said, failed))}
            | {"holds instead": "; ".join(map(_said, instead))}
        )
    return rows


def _said(check: Any) -> str:
    sign = ">=" if check.above else "<="
    return f"{check.name}: {check.value:.3g} ({sign} {check.bound:.3g})"


def on_correct(planted: Sequence[Planted], analysis: Analysis, broader: Hierarchy) -> list[Row]:
    """What the rule names of correct images, with their runner-up in the place of the true class: a
    row without the watermark, and one with it, on which hearts do rest."""
    thresholds = Thresholds(**analysis.settings["thresholds"])
    asked = [
        replace(case, photo=Photo(case.photo.name, case.other), verdict=None)
        for case in analysis.cases
    ]
    where = contexts(asked, thresholds.recurring, thresholds.labels)
    regions = {one.name: one.regions for one in planted}
    rows = []
    for title, marked in (("correct, without the watermark", False), ("correct, with it", True)):
        named = Counter(
            verdict(case, thresholds, broader, where).cause
            for case, whole in zip(asked, analysis.cases, strict=True)
            if whole.correct and ("watermark" in regions[case.photo.name]) == marked
        )
        count = sum(named.values())
        row = {"images": title, "count": count, "as context, %": share(named["context"], count)}
        rows.append(row | {cause: named[cause] for cause in CAUSES})
    return rows


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
    for kind, of_kind in _by_kind(planted).items():
        if of_kind[0].cause not in known:
            continue
        images, labels = _stacked(of_kind)
        region = known[of_kind[0].cause]
        hidden = torch.stack([torch.from_numpy(one.regions[region]) for one in of_kind])
        right = {name: won == labels for name, won in wins_without(model, images, hidden).items()}
        right["any"] = torch.stack(list(right.values())).any(0)
        rows.append(
            {"planted": kind, "images": len(of_kind), "area, %": 100 * float(hidden.float().mean())}
            | {name: share(int(hits.sum()), len(hits)) for name, hits in right.items()}
        )
    return rows


def _stacked(planted: Sequence[Planted]) -> tuple[Tensor, Tensor]:
    images = torch.stack([one.image for one in planted])
    return images, torch.tensor([one.label for one in planted])


def _finer(one: int, other: int) -> object:
    return FinerWeightedTarget(one, [other], alpha=1.0)


def _plain(one: int, other: int) -> object:
    return ClassifierOutputTarget(one)


def rings_of(planted: Sequence[Planted]) -> dict[str, tuple[list[Planted], list[int], list[int]]]:
    """What the pointing game is played on: images, the class that is explained, and the other one.

    Of errors between the look-alikes the predicted class rather than the label, and the label
    rather than the predicted class, though their beads are nearly grey. Of correct rings, whose
    beads are whole, the label.
    """
    wrong = [one for one in planted if one.cause == "near-identical classes"]
    right = [one for one in planted if one.kind == LOOK_ALIKES]
    pair = sum(CLASSES.index(name) for name in ALIKE)
    labels, predicted = [one.label for one in wrong], [one.predicted for one in wrong]
    of_right = [one.label for one in right]
    found = {
        "errors, predicted": (wrong, predicted, labels),
        "errors, label": (wrong, labels, predicted),
        "right": (right, of_right, [pair - one for one in of_right]),
    }
    return {title: rings for title, rings in found.items() if rings[0]}


def at_the_part(planted: Sequence[Planted], model: nn.Module, layer: nn.Module) -> list[Row]:
    """The pointing game on the part in which the look-alikes differ, a row a method."""
    methods: dict[str, tuple[BaseCAM, Any]] = {
        "LearnableCAM, contrast": (LearnableCAM(model), ContrastTarget),
        "LearnableCAM": (LearnableCAM(model), _plain),
        "the head alone, contrast": (
            LearnableCAM(model, [layer], attention="head"),
            ContrastTarget,
        ),
        "FinerCAM": (GradCAM(model, [layer]), _finer),
        "Grad-CAM": (GradCAM(model, [layer]), _plain),
    }
    rows = []
    for name, (cam, target) in methods.items():
        row: Row = {"method": name}
        with cam:
            for title, (rings, ones, others) in rings_of(planted).items():
                targets = [target(one, other) for one, other in zip(ones, others, strict=True)]
                maps = cam(_stacked(rings)[0], targets)
                row |= pointed(title, torch.from_numpy(maps), rings)
        rows.append(row)
    chance = {
        title + how: f"{100 * float(place.float().mean()):.0f}"
        for title, (rings, _, _) in rings_of(planted).items()
        for how, place in _parts(rings).items()
    }
    return [*rows, {"method": "a random place", **chance}]


def contrasts_at_the_part(planted: Sequence[Planted], cases: Mapping[str, Case]) -> Row:
    """The same of the maps that the analysis shows."""
    row: Row = {"method": "the analysis's contrasts"}
    for title, (rings, _, others) in rings_of(planted).items():
        field = "reverse" if title == "errors, label" else "contrast"
        kept = [i for i, one in enumerate(rings) if cases[one.name].other in (others[i], one.label)]
        if not kept:
            continue
        raw = [torch.from_numpy(getattr(cases[rings[i].name].maps, field)) for i in kept]
        maps = min_max(torch.stack([resize(one[None], (SIZE, SIZE))[0] for one in raw]))
        row |= pointed(title, maps, [rings[i] for i in kept])
    return row


def pointed(title: str, maps: Tensor, rings: Sequence[Planted]) -> Row:
    """How often the highest place of maps (N, 80, 80) lies in the part, and how often at most so
    far off as the pointing game allows: 15 pixels of 224 (Zhang et al. 2018)."""
    row: Row = {}
    for how, place in _parts(rings).items():
        hits = pointing_hit(maps, place)
        row[title + how] = share(int(hits.sum()), len(hits))
    return row


def _parts(rings: Sequence[Planted]) -> dict[str, Tensor]:
    parts = torch.stack([torch.from_numpy(one.regions["part"]) for one in rings])
    near = max_pool2d(parts.float()[:, None], 2 * _NEAR + 1, 1, _NEAR)[:, 0] > 0
    return {"": parts, ", near": near}
