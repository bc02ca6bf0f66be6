"""Train through the mask that is shown and scored: whole, and cut at every threshold."""

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...attention import (
    AttentionMechanism,
    condition,
    shipped_attention,
    universal_beside,
)
from ...classifier import FrozenClassifier, class_scores
from ...data import cell_regions, mosaics
from ...saliency import combine, min_max, resize
from ...wording import warn
from ..checks import check_order
from ..objectives.thresholds import (
    draw_fractions,
    fill_at_random,
    log_odds,
    misplacement_loss,
    necessity_loss,
    soft_top,
    sufficiency_loss,
)
from .base import Step


@dataclass(frozen=True)
class EveryThreshold:
    """Trains one mechanism for all classes through the masks that are shown and scored.

    Three dials: `misplaced`, how dark a map must be where another class is, against how bright it
    may be where its own is; `area`, how dark where there is neither; and `whole`, how much the
    whole map counts against its highest pixels.

    Attributes:
        name: of the recipe, recorded in the attention file.
        whole: the share of images masked by the whole map; the rest are masked by its highest 7 %
            to 90 % of pixels, drawn at random.
        misplaced: weight of minus the logarithm of the share of a mosaic's map that lies in the
            class's cell.
        area: weight of the mean of the map. Without it, what changes nothing for the class stays
            bright, which costs average drop nothing.
        removed: the share of images of which the highest pixels, 2 % to 40 %, are removed instead
            of kept.
        mosaics: the share of each batch in which four images make one; of four classes, so
            batches of fewer have none.
        black: the share of masks that turn to black; the others turn to the mean, or to a blur.
        width: channels of the mechanism (`ConditionedAttention`).
        learning_rate: at its highest, of AdamW; it rises and falls once over the training.
        kept, lost: between what shares of the pixels the highest ones are kept, or removed; a
            class that is lost is lost with the first of them.
        threshold_width: of `soft_top`.
        necessity_offset: of `necessity_loss`.
        smallest: of `misplacement_loss`.
        present: the probability of the class from which another image of a mosaic shows it too.
        weight_decay: of AdamW.
        warm_up: the share of the training in which the learning rate rises, from `first_rate` of
            its highest.
        max_norm: to which the gradient is clipped: where a map is nearly flat about the threshold,
            it is steep.
        mechanism: the settings of the mechanism (`MapSettings`) that are not its defaults.
    """

    terms: ClassVar = ("loss", "sufficiency", "necessity", "misplaced", "area")
    starts: ClassVar = ("head", "universal")

    name: str = "every-threshold"
    whole: float = 0.25
    misplaced: float = 1.5
    area: float = 0.0
    removed: float = 0.35
    mosaics: float = 0.25
    black: float = 0.75
    width: int = 64
    learning_rate: float = 2e-3
    kept: tuple[float, float] = (0.07, 0.9)
    lost: tuple[float, float] = (0.02, 0.4)
    threshold_width: float = 0.2
    necessity_offset: float = 2.0
    smallest: float = 0.02
    present: float = 0.05
    weight_decay: float = 1e-4
    warm_up: float = 0.15
    first_rate: float = 0.04
    max_norm: float | None = 1.0
    mechanism: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for share in ("whole", "removed", "mosaics", "black", "present", "warm_up", "first_rate"):
            if not 0 <= getattr(self, share) <= 1:
                raise ValueError(f"{share} is a share, 0 to 1, got {getattr(self, share)}")
        if self.whole + self.removed > 1:
            raise ValueError(
                f"whole and removed are shares of the same images, got {self.whole} and "
                f"{self.removed}: more than all"
            )
        if not (min(self.misplaced, self.area) >= 0 < min(self.learning_rate, self.width)):
            raise ValueError(
                "misplaced and area must not be negative, learning_rate and width must be above 0, "
                f"got {self.misplaced}, {self.area}, {self.learning_rate} and {self.width}"
            )
        for name in ("kept", "lost"):
            low, high = getattr(self, name)
            if not 0 < low <= high < 1:
                raise ValueError(f"{name} are two rising shares in (0, 1), got {(low, high)}")

    def start(
        self, classifier: FrozenClassifier, images: Tensor, kind: str, seed: int, progress: bool
    ) -> AttentionMechanism:
        """One mechanism for all classes: from the classifier's head, or for `kind` "universal" the
        one that comes with the package, to be fitted to this classifier."""
        check_order(classifier, images)
        if kind == "universal":
            # a copy: what comes with the package stays as it is
            trained = copy.deepcopy(shipped_attention())
            return universal_beside(classifier, images, trained, seed, progress)
        model, layers, reshape = classifier.model, classifier.layers, classifier.reshape_transform
        known = self.mechanism
        return condition(model, layers, images, reshape, self.width, seed, progress, **known)

    def step(self, classifier: FrozenClassifier, images: Tensor) -> Step:
        """The loss and its terms; each is the mean over the images that it is about."""
        return partial(self._terms, classifier, [True])

    def _terms(
        self,
        classifier: FrozenClassifier,
        first: list[bool],
        attention: AttentionMechanism,
        images: Tensor,
        labels: Tensor | None,
        seed: int,
    ) -> dict[str, Tensor]:
        features, scores = classifier.clean_pass(images)
        classes = scores.argmax(1) if labels is None else labels
        # its own, so that a training resumed in mid-epoch draws what an uninterrupted one does
        generator = torch.Generator().manual_seed(seed)
        tiles, tile_classes, present = self._mosaics(images, scores, classes, generator)
        if first:  # once a training
            first.clear()
            self._tell_of_none(len(tiles), classes)
        alone = len(images) - len(tiles)
        if len(tiles):
            tile_features, tile_scores = classifier.clean_pass(tiles)
            features = {k: torch.cat([v[:alone], tile_features[k]]) for k, v in features.items()}
            scores = torch.cat([scores[:alone], tile_scores])
            classes = torch.cat([classes[:alone], tile_classes])
            images = torch.cat([images[:alone], tiles])
        size = images.shape[2:]
        raw_maps = attention(features, classes)
        maps = combine([resize(min_max(raw.float()), size) for raw in raw_maps])
        draw = torch.rand(len(maps), generator=generator).to(maps.device)
        removed = draw > 1 - self.removed
        kept, lost = (
            draw_fractions(len(maps), between, generator).to(maps.device)
            for between in (self.kept, self.lost)
        )
        top = soft_top(maps, torch.where(removed, lost, kept), self.threshold_width)
        mask = torch.where((draw < self.whole)[:, None, None], maps, maps * top)
        mask = torch.where(removed[:, None, None], 1 - top, mask)
        behind = fill_at_random(images, classifier.pixels, self.black, generator)
        seen = torch.lerp(behind, images, mask[:, None].to(images))
        masked = class_scores(classifier.model(seen)).float()
        clean, after = log_odds(scores.float(), classes), log_odds(masked, classes)
        necessity = necessity_loss(after, self.necessity_offset)
        each = torch.where(removed, necessity, sufficiency_loss(clean, after))
        wrong = maps.new_zeros(())
        if len(tiles):
            every = cell_regions(torch.arange(4), size).to(maps.device)
            inside = (present[:, :, None, None] & every).any(1)
            wrong = misplacement_loss(maps[alone:], inside, self.smallest).mean()
        share = len(tiles) / len(images)
        return {
            "loss": each.mean() + self.misplaced * share * wrong + self.area * maps.mean(),
            "sufficiency": _mean(each[~removed]),
            "necessity": _mean(each[removed]),
            "misplaced": wrong,
            "area": maps.mean(),
        }

    def _tell_of_none(self, made: int, classes: Tensor) -> None:
        if not made and self.mosaics and self.misplaced:
            warn(
                f"the first batch, of {len(classes)} images of {len(classes.unique())} classes, "
                "makes no mosaics, which take four classes: without them `misplaced` counts "
                "nothing, and nothing asks for dark maps where another class is. Shuffle the "
                "images, or take larger batches; of a classifier of fewer classes set area instead"
            )

    def _mosaics(
        self, images: Tensor, scores: Tensor, classes: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mosaics of the batch's images, the class to explain in each, and the cells (N, 4), bool,
        whose images show that class, to the classifier's eye: the explained one and maybe more."""
        count = round(self.mosaics * len(images))
        if count == 0 or len(classes.unique()) < 4:
            return images[:0], classes[:0], classes[:0, None].expand(-1, 4).bool()
        seed = int(torch.randint(2**31, (), generator=generator))
        tiles, members, _ = mosaics(images, classes, count, seed)
        cells = torch.randint(4, (count, 1), generator=generator).to(images.device)
        explained = classes[members.gather(1, cells)[:, 0]]
        p = scores.softmax(1)[members].gather(2, explained[:, None, None].expand(-1, 4, 1))
        return tiles, explained, (p[:, :, 0] > self.present).scatter(1, cells, True)

    def make_optimizer(self, attention: AttentionMechanism) -> torch.optim.Optimizer:
        rate, decay = self.learning_rate, self.weight_decay
        return torch.optim.AdamW(attention.parameters(), lr=rate, weight_decay=decay)

    def rate(self, done: float, epochs: int) -> float:
        rise, low = self.warm_up * epochs, self.first_rate
        if done < rise:
            return low + (1 - low) * (1 - math.cos(math.pi * done / rise)) / 2
        return (1 + math.cos(math.pi * min(1.0, (done - rise) / (epochs - rise)))) / 2

    def record(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _mean(values: Tensor) -> Tensor:
    """The mean, 0 of nothing."""
    return values.sum() / max(1, len(values))
