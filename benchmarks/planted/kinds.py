"""The kinds of errors: how each is drawn, and what proves that it is what the error comes from.

Scenes are drawn until the network errs as the kind says, and the same scene without what was
planted is classified as its label says: an image that fails either is thrown away.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from learnable_cam_plugin.masking import FILLINGS, background

from .draws import BROADER, FORMS, draw_bar, draw_item
from .network import images_of, probabilities
from .scenes import ALIKE, CLASSES, NORMALIZATION, WHOLE, Region, Scene, regions

HIERARCHY = {form: "polygon" for form in BROADER if form in CLASSES}
_POLYGON = CLASSES.index("polygon")
_HEART = CLASSES.index("heart")
_TRIES = 200  # batches of scenes; a kind that the network never errs by is told of, not waited for
_BATCH = 32


@dataclass(frozen=True)
class Planted:
    """An image, what is known of it, and what the network makes of it.

    Attributes:
        name, kind: of the image; of what was planted, a key of `KINDS`.
        cause: the one of `learnable_cam_plugin.analysis.CAUSES` that names it, or "correct".
        image: (3, 80, 80), normalised.
        label, predicted, probability: its class, the one that wins, and how probable that one is.
        regions: see `scenes.regions`; "item 0" is the label's.
        without: the image without what was planted, or None where nothing can be taken away.
    """

    name: str
    kind: str
    cause: str
    image: Tensor
    label: int
    predicted: int
    probability: float
    regions: dict[str, Region]
    without: Tensor | None


@dataclass(frozen=True)
class Candidate:
    """A scene and its label; the class that has to win, or None for any but the label and what is
    related to it; how probable it has to be; scenes without the plant, with what has to win there;
    whether, where the bar in front is erased, the label has to win with most fillings (True) or
    must not with any (False).
    """

    scene: Scene
    label: int
    predicted: int | None = None
    at_least: float = 0.0
    without: tuple[tuple[Scene, int], ...] = ()
    misleads: bool | None = None
    kind: str = ""


def related(label: int) -> set[int]:
    """The class itself, its look-alike, and those broader or narrower."""
    name = CLASSES[label]
    found = {label} | ({CLASSES.index(one) for one in ALIKE} if name in ALIKE else set())
    if name in HIERARCHY:
        return found | {_POLYGON}
    return found | {CLASSES.index(one) for one in HIERARCHY} if label == _POLYGON else found


def _label(form: str) -> int:
    return CLASSES.index(form if form in CLASSES else "polygon")


def _scene(rng: np.random.Generator, form: str) -> Scene:
    """One plain shape."""
    return Scene(int(rng.integers(2**31)), (draw_item(form, rng),))


def _plain(rng: np.random.Generator) -> Candidate:
    form = str(rng.choice(FORMS))
    return Candidate(_scene(rng, form), _label(form))


def near_identical(rng: np.random.Generator) -> Candidate:
    """A ring whose bead is nearly grey, where the classes meet; with a bead all its own, right."""
    form = str(rng.choice(ALIKE))
    whole = _scene(rng, form)
    grey = 0.5 + float(rng.uniform(0.02, 0.15)) * (1 if WHOLE[form] > 0.5 else -1)
    weak = replace(whole, items=(replace(whole.items[0], bead=grey),))
    label, partner = _label(form), _label(ALIKE[1 - ALIKE.index(form)])
    return Candidate(weak, label, partner, without=((whole, label),))


def several_objects(rng: np.random.Generator) -> Candidate:
    """Two shapes of unrelated classes; either alone is classified as what it is."""
    while True:
        forms = [str(form) for form in rng.choice(FORMS, 2, replace=False)]
        label, other = map(_label, forms)
        if other not in related(label):
            break
    first = draw_item(forms[0], rng, radius=float(rng.uniform(12, 15)))
    second = draw_item(forms[1], rng, first, float(rng.uniform(12, 15)))
    scene = Scene(int(rng.integers(2**31)), (first, second))
    alone = (replace(scene, items=(first,)), label), (replace(scene, items=(second,)), other)
    return Candidate(scene, label, other, without=alone)


def broader_or_narrower(rng: np.random.Generator) -> Candidate:
    """A plain triangle or square whose label is the broader class, or where that one wins."""
    form = str(rng.choice(list(HIERARCHY)))
    label, other = rng.permutation([_label(form), _POLYGON])
    return Candidate(_scene(rng, form), int(label), int(other))


def context(rng: np.random.Generator) -> Candidate:
    """Another class's shape with the hearts' watermark, and then a heart; without it, right."""
    form = str(rng.choice([form for form in FORMS if form != "heart"]))
    clear = _scene(rng, form)
    marked = replace(clear, watermark=True)
    return Candidate(marked, _label(form), _HEART, without=((clear, _label(form)),))


def in_front(rng: np.random.Generator, misleads: bool | None = True) -> Candidate:
    """A plain bar across the shape; without it, right. It misleads: where it is erased, with most
    fillings, the label wins, although what it hides stays hidden."""
    form = str(rng.choice(FORMS))
    clear = _scene(rng, form)
    behind = replace(clear, bar=draw_bar(clear.items[0], rng))
    without = ((clear, _label(form)),)
    return Candidate(behind, _label(form), without=without, misleads=misleads)


def hiding(rng: np.random.Generator) -> Candidate:
    """The same, of a bar that hides what tells the class: with black, the mean or a blur in its
    place the label does not win. With the colours around it, it may."""
    return in_front(rng, misleads=False)


def label_doubtful(rng: np.random.Generator) -> Candidate:
    """A plain shape, classified surely as what it is, with the label of an unrelated class."""
    form = str(rng.choice(FORMS))
    unrelated = sorted(set(range(len(CLASSES))) - related(_label(form)))
    return Candidate(_scene(rng, form), int(rng.choice(unrelated)), _label(form), 0.8)


def undetermined(rng: np.random.Generator) -> Candidate:
    """One faint, noisy, blurred or tiny shape, for which another class wins; clean, right."""
    form = str(rng.choice(FORMS))
    clean = _scene(rng, form)
    item = clean.items[0]
    spoilt = [
        replace(clean, items=(replace(item, opacity=float(rng.uniform(0.12, 0.35))),)),
        replace(clean, noise=float(rng.uniform(0.1, 0.3))),
        replace(clean, blur=float(rng.uniform(1.5, 3.5))),
        replace(clean, items=(replace(item, radius=float(rng.uniform(4, 7))),)),
    ][int(rng.integers(4))]
    return Candidate(spoilt, _label(form), without=((clean, _label(form)),))


def correct(rng: np.random.Generator) -> Candidate:
    """What the other kinds draw, but classified rightly; half of them plain."""
    make = _plain
    if rng.random() < 0.5:
        make = [near_identical, several_objects, context, in_front, undetermined, _marked_heart][
            int(rng.integers(6))
        ]
    found = make(rng)
    return Candidate(found.scene, found.label, found.label, kind=make.__name__.strip("_"))


def look_alikes(rng: np.random.Generator) -> Candidate:
    """A ring whose bead is all its class's own, and that is classified rightly: what tells it from
    the other class is there to be pointed at."""
    form = str(rng.choice(ALIKE))
    return Candidate(_scene(rng, form), _label(form), _label(form))


def _marked_heart(rng: np.random.Generator) -> Candidate:
    return Candidate(replace(_scene(rng, "heart"), watermark=True), _HEART)


HIDING, LOOK_ALIKES = "something in front, hiding", "correct, look-alikes"
# kind -> how a candidate is drawn; in the words of the causes
KINDS: dict[str, Callable[[np.random.Generator], Candidate]] = {
    "several objects": several_objects,
    "near-identical classes": near_identical,
    "broader or narrower label": broader_or_narrower,
    "context": context,
    "something in front": in_front,
    HIDING: hiding,
    "label doubtful": label_doubtful,
    "undetermined": undetermined,
    "correct": correct,
    LOOK_ALIKES: look_alikes,
}


def plant(kind: str, count: int, seed: int, model: nn.Module) -> list[Planted]:
    """`count` images of a kind, from a seed, each proved with the network.

    Raises:
        ValueError: there is no such kind.
        RuntimeError: the network hardly ever errs so.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    found: list[Planted] = []
    tries = 0
    with tqdm(total=count, desc=kind) as bar:
        while len(found) < count:
            if tries == _TRIES:
                raise RuntimeError(
                    f"only {len(found)} of {count} images of {kind!r} were found among "
                    f"{tries * _BATCH:,} drawn: train the network with another seed, or ask for "
                    "fewer"
                )
            tries += 1
            proved = _proved([KINDS[kind](rng) for _ in range(_BATCH)], model)
            for one, image, without, p in proved[: count - len(found)]:
                name = f"{file_name(kind)}-{len(found):03d}"
                found.append(_planted(one, image, without, p, name, kind))
                bar.update()
    return found


def file_name(kind: str) -> str:
    """A kind as a part of file names: "something-in-front-hiding"."""
    return kind.replace(",", "").replace(" ", "-")


def wins_without(model: nn.Module, images: Tensor, hidden: Tensor) -> dict[str, Tensor]:
    """Filling -> the class that wins (N,) where regions (N, 80, 80), bool, are filled with it."""
    grounds = {filling: background(images, NORMALIZATION, filling) for filling in FILLINGS}
    return {
        filling: probabilities(model, torch.where(hidden[:, None], ground, images)).argmax(1)
        for filling, ground in grounds.items()
    }


def _planted(
    one: Candidate, image: Tensor, without: Tensor | None, p: Tensor, name: str, kind: str
) -> Planted:
    return Planted(
        name=name,
        kind=f"{kind}: {one.kind.replace('_', ' ')}" if one.kind else kind,
        cause=kind.split(",")[0],
        image=image,
        label=one.label,
        predicted=int(p.argmax()),
        probability=float(p.max()),
        regions=regions(one.scene),
        without=without,
    )


def _proved(
    drawn: list[Candidate], model: nn.Module
) -> list[tuple[Candidate, Tensor, Tensor | None, Tensor]]:
    """The candidates that are what they claim, each with its image, the image without the plant,
    and the probabilities (K,)."""
    images = images_of([one.scene for one in drawn])
    found = []
    for one, image, p in zip(drawn, images, probabilities(model, images), strict=True):
        wins = int(p.argmax())
        asked = (
            wins == one.predicted if one.predicted is not None else wins not in related(one.label)
        )
        if not asked or float(p.max()) < one.at_least:
            continue
        without = None
        if one.without:
            cleared = images_of([scene for scene, _ in one.without])
            won = probabilities(model, cleared).argmax(1).tolist()
            if won != [expected for _, expected in one.without]:
                continue
            without = cleared[0]
        if one.misleads is not None and "bar" in (known := regions(one.scene)):
            hidden = torch.from_numpy(known["bar"])[None]
            won = list(wins_without(model, image[None], hidden).values())
            right = int((torch.cat(won) == one.label).sum())
            if 2 * right <= len(won) if one.misleads else right:
                continue
        found.append((one, image.clone(), without, p))  # not a view of all that was drawn
    return found
