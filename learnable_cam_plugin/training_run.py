"""One training in progress: the steps, the epochs, the validation."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .features import check_images, class_scores, evaluating, forward_with_features
from .initialization import calibrate, condition, random_attention
from .mechanism import AttentionMechanism, Origin
from .metrics import average_drop, increase_in_confidence, masked_confidence
from .recipes import EveryThreshold, Recipe, learning_rate_factor, make_optimizer
from .saliency import saliency
from .training_state import TrainingState, write_history
from .training_steps import SigmoidStep, ThresholdStep

if TYPE_CHECKING:
    from .trainer import LearnableCAMTrainer


class TrainingRun:
    """What `LearnableCAMTrainer.fit` makes, and throws away when it is done.

    The classifier is frozen, and on the accelerator's device, for as long as it lives.
    """

    def __init__(self, trainer: LearnableCAMTrainer, accelerator: Any, loader: Iterable[Any]):
        self.trainer, self.accelerator, self.loader = trainer, accelerator, loader
        self.model, self.recipe = trainer.model, trainer.recipe
        self.layers, self.normalization = trainer.layers, trainer.normalization
        self.state = TrainingState()
        self._seed_epoch(0)
        first = self._images_of(self._first_batch())
        trainer.normalization.check(first)
        self.input_size = tuple(first.shape[1:])
        self.plain = self._start(first).train()
        self.step: SigmoidStep | ThresholdStep = (
            SigmoidStep(self, self.recipe, first)
            if isinstance(self.recipe, Recipe)
            else ThresholdStep(self, self.recipe)
        )
        self.optimizer = make_optimizer(self.recipe, self.plain)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.attention, self.prepared = accelerator.prepare(self.plain, self.optimizer)

    def _start(self, images: Tensor) -> AttentionMechanism:
        trainer = self.trainer
        if isinstance(trainer.start, AttentionMechanism):
            attention = copy.deepcopy(trainer.start)
            attention.attach(self.model, list(trainer.layers))
            return attention.to(images.device)
        if isinstance(self.recipe, EveryThreshold):
            return condition(
                self.model,
                trainer.layers,
                images,
                trainer.reshape_transform,
                self.recipe.width,
                trainer.seed,
                trainer.progress,
            )
        if trainer.start == "random":
            torch.manual_seed(trainer.seed)
            return random_attention(self.model, trainer.layers, images, trainer.reshape_transform)
        return calibrate(
            self.model, trainer.layers, images, trainer.reshape_transform, trainer.progress
        )

    def train(self, val_loader: Iterable[Any] | None, state_path: Path | None) -> None:
        """All epochs that are left."""
        state, trainer = self.state, self.trainer
        if val_loader is not None and not state.history:
            self._end_epoch(0, val_loader, time.perf_counter())
        steps = len(self.loader) if isinstance(self.loader, Sized) else None
        bar = tqdm(
            total=steps and steps * trainer.epochs,
            initial=(steps or 0) * state.epoch + state.step,
            desc=f"training {self.recipe.name}",
            disable=not (trainer.progress and self.accelerator.is_main_process),
        )
        with bar:
            while state.epoch < trainer.epochs and not self._stale():
                self._epoch(bar, state_path)
                self._end_epoch(state.epoch + 1, val_loader, self.began)
                state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
                self._save(state_path)

    def _stale(self) -> bool:
        patience = self.trainer.patience
        return patience is not None and self.state.stale >= patience

    def _epoch(self, bar: tqdm, state_path: Path | None) -> None:
        state = self.state
        self.began = time.perf_counter() - state.sums.get("seconds", 0.0)
        self._seed_epoch(state.epoch + 1)
        steps = len(self.loader) if isinstance(self.loader, Sized) else None
        for step, batch in enumerate(self._batches(self.loader)):
            if step < state.step:  # seen before the interruption: replayed for the random stream
                continue
            self._set_rate(state.epoch + (step / steps if steps else 0.0))
            images, labels = self._images_of(batch), self._labels_of(batch)
            terms = self._update(images, labels)
            state.step = step + 1
            for name in terms:
                state.sums[name] = state.sums.get(name, 0.0) + terms[name] * len(images)
            state.sums["images"] = state.sums.get("images", 0.0) + len(images)
            state.sums["seconds"] = time.perf_counter() - self.began
            bar.update()
            bar.set_postfix({"epoch": state.epoch + 1, **{k: f"{v:.3f}" for k, v in terms.items()}})
            every = self.trainer.checkpoint_every
            if every and state.step % every == 0:
                self._save(state_path)
        if state.step == 0:
            raise ValueError(
                f"the loader gave no batch in epoch {state.epoch + 1}: pass one that can be "
                "iterated anew each epoch, such as a DataLoader or a list, and is not empty"
            )

    def _set_rate(self, done: float) -> None:
        factor = learning_rate_factor(self.recipe, done, self.trainer.epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _update(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        with self.accelerator.autocast():
            terms = self.step(images, labels)
        values = {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"the loss is not finite at epoch {self.state.epoch + 1}, step "
                f"{self.state.step + 1}: {values}. Lower the learning rate "
                f"({self.recipe.learning_rate}) or train without mixed precision."
            )
        self.prepared.zero_grad()
        self.accelerator.backward(terms["loss"])
        if self.step.max_norm is not None:
            self.accelerator.clip_grad_norm_(self.attention.parameters(), self.step.max_norm)
        self.prepared.step()
        return values

    @torch.no_grad()
    def clean_pass(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The feature maps, and the class scores (N, K)."""
        outputs, features = forward_with_features(
            self.model, self.layers, images, reshape_transform=self.trainer.reshape_transform
        )
        scores = class_scores(outputs)
        if scores.shape[1] < 2:
            raise ValueError(
                "the model gives one score; training needs one a class. Wrap a binary classifier "
                "so that it returns two, for example torch.cat([-z, z], 1)."
            )
        return features, scores

    @torch.no_grad()
    def _validate(self, loader: Iterable[Any]) -> dict[str, float]:
        """Average drop and increase in confidence of the masked images, in percent."""
        before, after = [], []
        for batch in self._batches(loader):
            images = self._images_of(batch)
            features, scores = self.clean_pass(images)
            p, classes = scores.float().softmax(1).max(1)
            with evaluating(self.plain):
                maps = saliency(self.plain(features, classes), images.shape[2:])
            q = masked_confidence(self.model, images, maps, classes, self.normalization, (1.0,))[
                1.0
            ]
            gathered = self.accelerator.gather_for_metrics((p, q))
            before.append(gathered[0].cpu())
            after.append(gathered[1].cpu())
        if not before:
            raise ValueError("the validation loader gave no batch")
        p, q = torch.cat(before), torch.cat(after)
        return {
            "val_average_drop": average_drop(p, q),
            "val_increase_in_confidence": increase_in_confidence(p, q),
        }

    def _end_epoch(self, epoch: int, val_loader: Iterable[Any] | None, began: float) -> None:
        state = self.state
        sums = self._over_processes(state.sums)
        images = sums.get("images", 0.0)
        row: dict[str, float] = {"epoch": epoch, "images": images}
        row["seconds"] = round(time.perf_counter() - began, 3)
        row |= {name: sums[name] / images for name in self.step.terms if images}
        if val_loader is not None:
            row |= self._validate(val_loader)
            state.judge(row["val_average_drop"], self.plain)
        state.history.append(row)
        if self.trainer.output_dir and self.accelerator.is_main_process:
            write_history(self.trainer.output_dir, state.history)

    def _over_processes(self, sums: Mapping[str, float]) -> dict[str, float]:
        if self.accelerator.num_processes == 1 or not sums:
            return dict(sums)
        own = torch.tensor(list(sums.values()), device=self.accelerator.device)
        return dict(zip(sums, self.accelerator.reduce(own).tolist(), strict=True))

    def _save(self, path: Path | None) -> None:
        if path and self.accelerator.is_main_process:
            self.state.save(path, self.plain, self.optimizer, self.trainer.settings())

    def result(self) -> AttentionMechanism:
        """The best epoch's attention where patience chose one, else the last."""
        trainer = self.trainer
        attention = copy.deepcopy(self.plain).cpu().eval()
        if trainer.patience is not None and self.state.best:
            attention.load_state_dict(self.state.best)
        attention.origin = Origin.of(
            self.model,
            recipe={**trainer.settings(), "epochs": self.state.epoch},
            normalization=dataclasses.asdict(trainer.normalization),
            input_size=self.input_size,
        )
        return attention

    # Batches

    def seed_of_step(self) -> int:
        """Another for every step, the same in a training that was interrupted before it."""
        rank = self.accelerator.process_index
        numbers = (self.trainer.seed, self.state.epoch, self.state.step, rank)
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])

    def _seed_epoch(self, epoch: int) -> None:
        from accelerate.utils import set_seed

        seed = (self.trainer.seed * 1_000_003 + epoch) % 2**32
        set_seed(seed)
        for owner in (self.loader, getattr(self.loader, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed)

    def _batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        if isinstance(loader, torch.utils.data.DataLoader) and self.accelerator.num_processes > 1:
            loader = self.accelerator.prepare_data_loader(loader)
        return iter(loader)

    def _first_batch(self) -> Any:
        for batch in self.loader:
            return batch
        raise ValueError("the training loader is empty: it gave no batch")

    def _images_of(self, batch: Any) -> Tensor:
        images = batch[0] if isinstance(batch, Sequence) and len(batch) else batch
        if not isinstance(images, Tensor):
            raise TypeError(
                "the loader must give batches of images (N, C, H, W), or (images, labels); got a "
                f"{type(batch).__name__}"
            )
        images = check_images(images).to(self.accelerator.device)
        # as the weights are, see LearnableCAMTrainer.fit
        dense = torch.channels_last if images.ndim == 4 else torch.contiguous_format
        return images.contiguous(memory_format=dense)

    def _labels_of(self, batch: Any) -> Tensor | None:
        if self.trainer.labels == "predicted":
            return None
        if not isinstance(batch, Sequence) or len(batch) < 2:
            raise TypeError("labels='dataset' needs a loader of (images, labels)")
        labels = torch.as_tensor(batch[1]).to(self.accelerator.device)
        if labels.shape != (len(batch[0]),) or labels.is_floating_point():
            raise ValueError(
                f"labels must be integers of shape ({len(batch[0])},), got {labels.dtype} of "
                f"{tuple(labels.shape)}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.plain.num_classes:
            raise ValueError(
                f"labels range from {low} to {high}, the classifier has classes 0 to "
                f"{self.plain.num_classes - 1}"
            )
        return labels.long()
