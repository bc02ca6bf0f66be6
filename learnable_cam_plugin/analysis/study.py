"""From images and labels to an analysis."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..attention import AttentionMechanism, source_name
from ..classifier import check_images
from ..masking import Normalization
from .across import contexts, doubt, pairs
from .analysis import Analysis
from .case import SURROUNDINGS, Case, Photo, Region
from .causes import Thresholds, verdict
from .front import front
from .hierarchy import Hierarchy
from .maps import Eyes, Seen
from .neighbours import Gallery
from .regions import agreement, elsewhere, region
from .trials import ERASURES, Change, trials

Batches = Iterable[tuple[Tensor, Sequence[Photo]]]
_CONTROLS = 3  # random regions for each that is tested: one alone is a noisy control


def analyze(
    model: nn.Module,
    batches: Batches,
    normalization: Normalization,
    class_names: Sequence[str] | None = None,
    *,
    attention: AttentionMechanism | str | None = None,
    target_layers: Sequence[nn.Module | str] | None = None,
    hierarchy: Hierarchy | None = None,
    thresholds: Thresholds | None = None,
    fillings: Sequence[str] = ERASURES,
    correct: int = 100,
    training: Batches | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Analysis:
    """Why a classifier errs: for each error the maps of both classes, tests of them, and a cause.

    One pass an image finds the errors and explains them; 48 more an error, of masked copies, test
    what the maps show; up to 59 what may be in front, and 3 for each of several things without
    which the true class wins. See `verdict` for the rule that names the causes.

    Args:
        model: the classifier, giving class scores (N, K).
        batches: of images (N, C, H, W), normalised, with a `Photo` each; gone through once.
        normalization: what the images went through.
        class_names: K names; None numbers them.
        attention, target_layers: as of `LearnableCAM`; the attention reads the classifier's head.
        hierarchy: which class is broader than which; None knows of none.
        thresholds: of the rule; None takes `Thresholds()`.
        fillings: of the tests: some of "black", "mean", "blur", and "surroundings", the colours
            around what is erased; all but the last where a region alone is kept. What may be in
            front is always tried with the last, too.
        correct: that many images that are classified correctly are looked at, too, for comparison:
            the first ones. For a sample, give the images in the order of `drawn_for(photo, seed)`.
        training: of the classifier, in the same form: the nearest of them stand beside each case.
        seed: of the random regions, which are drawn for each photograph by its name: what else is
            analysed does not matter.
        progress: show a bar.

    Raises:
        ValueError: no images, or such as the normalisation cannot give; a label that is no class;
            names, labels or fillings that do not fit.
        TypeError: an attention that does not read the head.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ...                     nn.Linear(8, 4))
    >>> images, photos = torch.rand(6, 3, 16, 16), [Photo(f"{i}.jpg", i % 4) for i in range(6)]
    >>> found = analyze(net, [(images, photos)], Normalization([0], [1]), progress=False)
    >>> found.images == 6 and found.errors == sum(found.counts().values())
    True
    """
    thresholds = Thresholds() if thresholds is None else thresholds
    unknown = [filling for filling in fillings if filling not in ERASURES]
    if unknown or not fillings or isinstance(fillings, str):
        raise ValueError(f"fillings must be some of {', '.join(ERASURES)}, got {fillings!r}")
    if correct < 0:
        raise ValueError(f"correct must be at least 0, got {correct}")
    eyes = Eyes(model, target_layers, attention)
    gallery = _gallery(eyes, training, progress)
    cases: list[Case] = []
    images_of: Counter[int] = Counter()
    errors, count, known = 0, 0, correct
    for images, photos in tqdm(batches, desc="analyzing", disable=not progress):
        check_images(images)
        _check_photos(images, photos)
        if not count:  # what is erased would be another colour than it is called
            normalization.check(images)
        seen = eyes.look(images)
        class_names = _checked_names(class_names, seen.probabilities.shape[1], photos)
        images_of.update(photo.label for photo in photos)
        tops = seen.probabilities.argmax(1).tolist()
        wrong = [top != photo.label for top, photo in zip(tops, photos, strict=True)]
        errors, count = errors + sum(wrong), count + len(photos)
        right = list(islice((i for i, is_wrong in enumerate(wrong) if not is_wrong), known))
        known -= len(right)
        looked = sorted(right + [i for i, is_wrong in enumerate(wrong) if is_wrong])
        if looked:
            chosen = [photos[i] for i in looked]
            found = _cases(
                eyes, images[looked], seen.of(looked), chosen, thresholds, normalization, fillings,
                seed, gallery,
            )  # fmt: skip
            cases += found
    if class_names is None or not count:
        raise ValueError("there is no image to analyze")
    where = contexts(cases, thresholds.recurring, thresholds.labels)
    held = Hierarchy() if hierarchy is None else hierarchy
    judged = tuple(
        case
        if case.correct
        else replace(case, verdict=verdict(case, thresholds, held, where, len(class_names)))
        for case in cases
    )
    settings = {
        **_about(model, eyes), "thresholds": asdict(thresholds), "fillings": list(fillings),
        "seed": seed, "correct": correct,
    }  # fmt: skip
    return Analysis(
        cases=judged,
        class_names=tuple(class_names),
        images=count,
        errors=errors,
        pairs=pairs(judged, images_of, thresholds.same),
        contexts=where,
        settings=settings,
    )


def _cases(
    eyes: Eyes,
    images: Tensor,
    seen: Seen,
    photos: Sequence[Photo],
    thresholds: Thresholds,
    normalization: Normalization,
    fillings: Sequence[str],
    seed: int,
    gallery: Gallery | None,
) -> list[Case]:
    """The cases of some images, without their causes."""
    size = (images.shape[2], images.shape[3])
    # stable, so that of equal classes the first is the first here as in argmax
    order = seen.probabilities.argsort(dim=1, descending=True, stable=True)
    labels = torch.tensor([photo.label for photo in photos], device=order.device)
    predicted = order[:, 0]
    other = torch.where(predicted == labels, order[:, 1], labels)
    maps = seen.maps(predicted, other)
    classes = list(zip(predicted.tolist(), other.tolist(), strict=True))
    images, pixels = images.to(eyes.device), normalization.rgb(images.cpu().float())
    regions, changes = [], []
    for photo, one, image, rgb, pair in zip(photos, maps, images, pixels, classes, strict=True):
        of_map = {
            name: region(getattr(one, name), size, thresholds.level, thresholds.area)
            for name in ("predicted", "other")
        }
        rather = np.clip(one.predicted - one.other, 0, None)
        of_map["contrast"] = region(rather, size, thresholds.margin, thresholds.area)
        in_front = front(eyes, image, rgb, pair, thresholds, normalization)
        regions.append(of_map | in_front)
        changes.append(_changes(of_map, in_front, fillings, drawn_for(photo, seed)))
    tried = trials(eyes, images, changes, classes, normalization)
    vectors = None if gallery is None else seen.selected()
    found = []
    for i, (photo, (top, against)) in enumerate(zip(photos, classes, strict=True)):
        kept = dict.fromkeys([*order[i, :5].tolist(), against])
        case = Case(
            photo=photo,
            predicted=top,
            other=against,
            probabilities={c: float(seen.probabilities[i, c]) for c in kept},
            rank=int((order[i] == against).nonzero()) + 1,
            size=size,
            maps=maps[i],
            regions=regions[i],
            agreement=agreement(
                maps[i].predicted, maps[i].other, regions[i]["predicted"], regions[i]["other"]
            ),
            trials=tried[i],
            neighbours=() if vectors is None or gallery is None else gallery.nearest(vectors[i]),
        )
        found.append(replace(case, doubt=doubt(case)))
    return found


def drawn_for(photo: Photo, seed: int) -> np.random.Generator:
    """Random numbers of a photograph's own, by its name."""
    return np.random.default_rng([seed, *photo.name.encode()])


def _changes(
    regions: dict[str, Region],
    in_front: dict[str, Region],
    fillings: Sequence[str],
    random: np.random.Generator,
) -> list[Change]:
    """All that is tried on an image, its controls among it."""
    controls, others = (
        [elsewhere(regions[name], random) for _ in range(_CONTROLS)]
        for name in ("predicted", "contrast")
    )
    around = [one for one in fillings if one != SURROUNDINGS] or fillings
    found = [Change(name, "erase", where, fillings) for name, where in regions.items()]
    found += [Change("random", "erase", where, fillings) for where in controls]
    found += [Change("elsewhere", "erase", where, fillings) for where in others]
    found += [Change(name, "keep", where, around) for name, where in regions.items()]
    found.append(Change("random", "keep", controls[0], around))
    if in_front:
        thing = in_front["thing"]
        beside = [elsewhere(thing, random) for _ in range(_CONTROLS)]
        of_thing = [*dict.fromkeys([*fillings, SURROUNDINGS])]  # the rule asks for the last
        found.append(Change("thing", "erase", thing, of_thing))
        found += [Change("beside", "erase", where, of_thing) for where in beside]
        found.append(Change("thing", "keep", thing, around))
    return found


def _gallery(eyes: Eyes, training: Batches | None, progress: bool) -> Gallery | None:
    """Training images by the features that the map of their own top class selects."""
    if training is None:
        return None
    gallery = Gallery()
    for images, photos in tqdm(training, desc="training images", disable=not progress):
        _check_photos(images, photos)
        gallery.add(eyes.look(check_images(images)).selected(), photos)
    return gallery


def _check_photos(images: Tensor, photos: Sequence[Photo]) -> None:
    if len(images) != len(photos):
        raise ValueError(f"a batch has {len(images)} images and {len(photos)} photos")


def _checked_names(
    names: Sequence[str] | None, count: int, photos: Sequence[Photo]
) -> Sequence[str]:
    names = [str(i) for i in range(count)] if names is None else names
    if len(names) != count:
        raise ValueError(f"the classifier has {count} classes, and there are {len(names)} names")
    for photo in photos:
        if not 0 <= photo.label < count:
            raise ValueError(
                f"the label of {photo.name} is {photo.label}; the classifier's classes are 0 to "
                f"{count - 1}"
            )
    return names


def _about(model: nn.Module, eyes: Eyes) -> dict[str, Any]:
    """What an analysis was made with."""
    attention = eyes.attention
    return {
        "model": type(model).__name__,
        "attention": type(attention).__name__,
        "source": None if attention is None else source_name(attention.source),
        "layers": [] if attention is None else list(attention.channels),
        "versions": {name: version(name) for name in ("learnable-cam-plugin", "torch")},
    }
