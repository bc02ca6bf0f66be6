"""What one step of training computes: the paper's loss, or that of every threshold."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .features import class_scores
from .masking import classify_masked_features, mask_image
from .metrics.localization import cell_regions, mosaics
from .objective import lcam_loss
from .recipes import EveryThreshold, Recipe
from .replay import Replay
from .saliency import combine, min_max, resize
from .thresholds import (
    KEPT,
    REMOVED,
    draw_fractions,
    fill_at_random,
    log_odds,
    misplacement_loss,
    necessity_loss,
    soft_top,
    sufficiency_loss,
)

if TYPE_CHECKING:
    from .training_run import TrainingRun


class SigmoidStep:
    """L-CAM: the sigmoid of the class's raw map masks the image, or the feature maps.

    Args:
        run: the training.
        recipe: what is masked, and the loss.
        images: a batch, on which a shorter second pass is tried out for L-CAM-Fm.
    """

    terms = ("loss", "cross_entropy", "average_variation", "total_variation")
    max_norm = None

    def __init__(self, run: TrainingRun, recipe: Recipe, images: Tensor) -> None:
        self.run, self.recipe = run, recipe
        self.replays = self._replays(images) if recipe.mask == "features" else {}

    def _replays(self, images: Tensor) -> dict[str, Replay]:
        """The layers after which the network can be replayed, tried on a batch."""
        found = {}
        for name in self.run.layers:
            replay = Replay(self.run.model, name)
            with torch.no_grad(), replay.recording():
                outputs = self.run.model(images)
            if replay.reproduces(images, class_scores(outputs)):
                found[name] = replay
        return found

    def __call__(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """The mean over the layers of the loss terms (`lcam_loss`)."""
        run = self.run
        with ExitStack() as stack:
            for replay in self.replays.values():
                stack.enter_context(replay.recording())
            features, scores = run.clean_pass(images)
        classes = scores.argmax(1) if labels is None else labels
        own = run.attention(features, classes)
        regularized = self._regularized(features, classes, own)
        losses = []
        # a mechanism that fuses its layers has one map, which belongs to the image
        for name, raw, maps in zip(run.layers, own, regularized, strict=False):
            mask = raw.sigmoid()
            if self.recipe.mask == "image":
                logits = run.model(mask_image(images, mask, run.normalization))
            else:
                forward = self.replays.get(name, run.model)
                logits = classify_masked_features(forward, run.layers[name], images, mask)
            losses.append(
                lcam_loss(
                    class_scores(logits).float(),
                    classes,
                    maps.sigmoid(),
                    self.recipe.loss,
                    batch_size=len(images),
                )
            )
        return {name: torch.stack([loss[name] for loss in losses]).mean() for name in self.terms}

    def _regularized(
        self, features: Mapping[str, Tensor], classes: Tensor, own: list[Tensor]
    ) -> list[Tensor]:
        if self.recipe.regularize == "own":
            return own
        everyone = classes.expand(len(classes), -1)
        return [m.flatten(0, 1) for m in self.run.attention(features, everyone)]


class ThresholdStep:
    """Masks as inference shows and scores them: whole, the highest pixels, all but the highest.

    Args:
        run: the training.
        recipe: the shares of the masks, and the weight of what is misplaced in a mosaic.
    """

    terms = ("loss", "sufficiency", "necessity", "misplaced", "area")
    # where a map is nearly flat about the threshold, its gradient is steep
    max_norm = 1.0

    def __init__(self, run: TrainingRun, recipe: EveryThreshold) -> None:
        self.run, self.recipe = run, recipe

    def __call__(self, images: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """The loss and its terms; each is the mean over the images that it is about."""
        run, recipe = self.run, self.recipe
        features, scores = run.clean_pass(images)
        classes = scores.argmax(1) if labels is None else labels
        # its own, so that a training resumed in mid-epoch draws what an uninterrupted one does
        generator = torch.Generator().manual_seed(run.seed_of_step())
        tiles, tile_classes, present = self._mosaics(images, scores, classes, generator)
        alone = len(images) - len(tiles)
        if len(tiles):
            tile_features, tile_scores = run.clean_pass(tiles)
            features = {k: torch.cat([v[:alone], tile_features[k]]) for k, v in features.items()}
            scores = torch.cat([scores[:alone], tile_scores])
            classes = torch.cat([classes[:alone], tile_classes])
            images = torch.cat([images[:alone], tiles])
        size = images.shape[2:]
        raw_maps = run.attention(features, classes)
        maps = combine([resize(min_max(raw.float()), size) for raw in raw_maps])
        draw = torch.rand(len(maps), generator=generator).to(maps.device)
        removed = draw > 1 - recipe.removed
        shares = [draw_fractions(len(maps), r, generator).to(maps.device) for r in (KEPT, REMOVED)]
        top = soft_top(maps, torch.where(removed, shares[1], shares[0]))
        mask = torch.where((draw < recipe.whole)[:, None, None], maps, maps * top)
        mask = torch.where(removed[:, None, None], 1 - top, mask)
        behind = fill_at_random(images, run.normalization, recipe.black, generator)
        masked = class_scores(run.model(torch.lerp(behind, images, mask[:, None]))).float()
        clean, after = log_odds(scores.float(), classes), log_odds(masked, classes)
        each = torch.where(removed, necessity_loss(after), sufficiency_loss(clean, after))
        wrong = maps.new_zeros(())
        if len(tiles):
            every = cell_regions(torch.arange(4), size).to(maps.device)
            inside = (present[:, :, None, None] & every).any(1)
            wrong = misplacement_loss(maps[alone:], inside).mean()
        share = len(tiles) / len(images)
        return {
            "loss": each.mean() + recipe.misplaced * share * wrong + recipe.area * maps.mean(),
            "sufficiency": _mean(each[~removed]),
            "necessity": _mean(each[removed]),
            "misplaced": wrong,
            "area": maps.mean(),
        }

    def _mosaics(
        self, images: Tensor, scores: Tensor, classes: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mosaics of the batch's images, the class to explain in each, and the cells (N, 4), bool,
        whose images show that class, to the classifier's eye: the explained one and maybe more."""
        count = round(self.recipe.mosaics * len(images))
        if count == 0 or len(classes.unique()) < 4:
            return images[:0], classes[:0], classes[:0, None].expand(-1, 4).bool()
        seed = int(torch.randint(2**31, (), generator=generator))
        tiles, members, _ = mosaics(images, classes, count, seed)
        cells = torch.randint(4, (count, 1), generator=generator).to(images.device)
        explained = classes[members.gather(1, cells)[:, 0]]
        p = scores.softmax(1)[members].gather(2, explained[:, None, None].expand(-1, 4, 1))
        return tiles, explained, (p[:, :, 0] > 0.05).scatter(1, cells, True)


def _mean(values: Tensor) -> Tensor:
    """The mean, 0 of nothing."""
    return values.sum() / max(1, len(values))
