"""One training in progress: the steps, the epochs, the validation."""

import copy
import dataclasses
import json
import math
import time
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..attention import AttentionMechanism, Origin
from ..classifier import FrozenClassifier, evaluating
from ..metrics import average_drop, increase_in_confidence, masked_confidence
from ..saliency import saliency
from .batches import batches_of, first_batch, images_of, labels_of, seed_epoch
from .history import write_history
from .recipes import TrainingRecipe
from .state import TrainingState


@dataclass(frozen=True)
class Plan:
    """How a training goes; the arguments of `LearnableCAMTrainer`, under the same names.

    Attributes:
        given: the attention to start from, instead of one that the recipe makes.
    """

    recipe: TrainingRecipe
    start: str
    given: AttentionMechanism | None
    labels: str
    epochs: int
    patience: int | None
    seed: int
    output_dir: Path | None
    checkpoint_every: int | None
    progress: bool

    def settings(self, classifier: FrozenClassifier) -> dict[str, Any]:
        """What must be the same for a resumed training to end as an uninterrupted one."""
        recipe, about = self.recipe, Origin.of(classifier.model)
        rates = [
            [recipe.rate(quarter / 4, length) for quarter in range(4 * self.epochs)]
            for length in (self.epochs, self.epochs + 1)
        ]
        settings = {
            "name": recipe.name,
            **recipe.record(),
            "max_norm": recipe.max_norm,
            "start": self.start,
            "labels": self.labels,
            "seed": self.seed,
            "layers": list(classifier.layers),
            "normalization": dataclasses.asdict(classifier.pixels),
            # a learning rate that falls to 0 at the end has to know where that is
            **({"epochs": self.epochs} if rates[0] != rates[1] else {}),
            "classifier": [about.architecture, about.shapes, about.weights],
        }
        try:  # as they come back from a file, so that they can be compared
            return json.loads(json.dumps(settings))
        except TypeError as error:
            raise TypeError(
                f"what record() of {recipe.name!r} gives cannot be saved, JSON values are needed: "
                f"{error}"
            ) from error


class TrainingRun:
    """What `LearnableCAMTrainer.fit` makes, and throws away when it is done.

    The classifier is held, frozen and on the accelerator's device, for as long as it lives.
    """

    def __init__(
        self, classifier: FrozenClassifier, plan: Plan, accelerator: Any, loader: Iterable[Any]
    ) -> None:
        self.classifier, self.plan = classifier, plan
        self.accelerator, self.loader = accelerator, loader
        self.state = TrainingState()
        seed_epoch(loader, plan.seed, 0)
        first = images_of(first_batch(loader), accelerator.device)
        classifier.pixels.check(first)
        self.input_size = tuple(first.shape[1:])
        self.plain = self._start(first).train()
        mechanism = {"name": type(self.plain).__name__, **self.plain.settings()}
        self.settings = {**plan.settings(classifier), "attention": mechanism}
        self.step = plan.recipe.step(classifier, first)
        self.optimizer = plan.recipe.make_optimizer(self.plain)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.attention, self.prepared = accelerator.prepare(self.plain, self.optimizer)
        self.steps = len(loader) if isinstance(loader, Sized) else None

    def _start(self, images: Tensor) -> AttentionMechanism:
        plan = self.plan
        if plan.given is None:
            return plan.recipe.start(self.classifier, images, plan.start, plan.seed, plan.progress)
        attention = copy.deepcopy(plan.given)
        attention.attach(self.classifier.model, list(self.classifier.layers))
        return attention.to(images.device)

    def resume(self, path: Path) -> None:
        """Go on from a state on disk; CheckpointError if it has other settings or is damaged."""
        self.state.load(path, self.plain, self.optimizer, self.settings)

    def train(self, val_loader: Iterable[Any] | None, state_path: Path | None) -> None:
        """All epochs that are left."""
        state, plan = self.state, self.plan
        if val_loader is not None and not state.history:
            self._end_epoch(0, val_loader, time.perf_counter())
        bar = tqdm(
            total=self.steps and self.steps * plan.epochs,
            initial=(self.steps or 0) * state.epoch + state.step,
            desc=f"training {plan.recipe.name}",
            disable=not (plan.progress and self.accelerator.is_main_process),
        )
        with bar:
            while state.epoch < plan.epochs and (
                plan.patience is None or state.stale < plan.patience
            ):
                self._epoch(bar, state_path)
                self._end_epoch(state.epoch + 1, val_loader, self.began)
                state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
                self._save(state_path)

    def _epoch(self, bar: tqdm, state_path: Path | None) -> None:
        state = self.state
        self.began = time.perf_counter() - state.sums.get("seconds", 0.0)
        seed_epoch(self.loader, self.plan.seed, state.epoch + 1)
        for step, batch in enumerate(batches_of(self.loader, self.accelerator)):
            if step < state.step:  # seen before the interruption: replayed for the random stream
                continue
            self._set_rate(state.epoch + (step / self.steps if self.steps else 0.0))
            images, labels = images_of(batch, self.accelerator.device), None
            if self.plan.labels == "dataset":
                labels = labels_of(batch, images.device, self.plain.num_classes)
            terms = self._update(images, labels)
            state.step = step + 1
            for name, value in {**terms, "images": 1.0}.items():
                state.sums[name] = state.sums.get(name, 0.0) + value * len(images)
            state.sums["seconds"] = time.perf_counter() - self.began
            bar.update()
            bar.set_postfix({"epoch": state.epoch + 1, **{k: f"{v:.3f}" for k, v in terms.items()}})
            if self.plan.checkpoint_every and state.step % self.plan.checkpoint_every == 0:
                self._save(state_path)
        if state.step == 0:
            raise ValueError(
                f"the loader gave no batch in epoch {state.epoch + 1}: pass one that can be "
                "iterated anew each epoch, such as a DataLoader or a list, and is not empty"
            )

    def _set_rate(self, done: float) -> None:
        factor = self.plan.recipe.rate(done, self.plan.epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _update(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        with self.accelerator.autocast():
            terms = self.step(self.attention, images, labels, self._seed_of_step())
        missing = [name for name in self.plan.recipe.terms if name not in terms]
        if missing:
            raise ValueError(
                f"a step of {self.plan.recipe.name!r} gave the terms {list(terms)}, without "
                f"{missing}: its recipe names them in `terms`"
            )
        values = {name: float(value.detach()) for name, value in terms.items()}
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"the loss is not finite at epoch {self.state.epoch + 1}, step "
                f"{self.state.step + 1}: {values}. Lower the learning rate "
                f"({max(self.rates)}) or train without mixed precision."
            )
        self.prepared.zero_grad()
        self.accelerator.backward(terms["loss"])
        if self.plan.recipe.max_norm is not None:
            self.accelerator.clip_grad_norm_(self.attention.parameters(), self.plan.recipe.max_norm)
        self.prepared.step()
        return values

    @torch.no_grad()
    def _validate(self, loader: Iterable[Any]) -> dict[str, float]:
        """Average drop and increase in confidence of the masked images, in percent."""
        classifier, before, after = self.classifier, [], []
        for batch in batches_of(loader, self.accelerator):
            images = images_of(batch, self.accelerator.device)
            features, scores = classifier.clean_pass(images)
            p, classes = scores.float().softmax(1).max(1)
            with evaluating(self.plain):
                maps = saliency(self.plain(features, classes), images.shape[2:])
            q = masked_confidence(
                classifier.model, images, maps, classes, classifier.pixels, (1.0,)
            )[1.0]
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
        sums = dict(state.sums)
        if self.accelerator.num_processes > 1 and sums:
            own = torch.tensor(list(sums.values()), device=self.accelerator.device)
            sums = dict(zip(sums, self.accelerator.reduce(own).tolist(), strict=True))
        images = sums.get("images", 0.0)
        row: dict[str, float] = {"epoch": epoch, "images": images}
        row["seconds"] = round(time.perf_counter() - began, 3)
        row |= {name: sums[name] / images for name in self.plan.recipe.terms if images}
        if val_loader is not None:
            row |= self._validate(val_loader)
            state.judge(row["val_average_drop"], self.plain)
        state.history.append(row)
        if self.plan.output_dir and self.accelerator.is_main_process:
            write_history(self.plan.output_dir, state.history, self.plan.recipe.terms)

    def _save(self, path: Path | None) -> None:
        if path and self.accelerator.is_main_process:
            self.state.save(path, self.plain, self.optimizer, self.settings)

    def result(self) -> AttentionMechanism:
        """The best epoch's attention where patience chose one, else the last."""
        attention = copy.deepcopy(self.plain).cpu().eval()
        if self.plan.patience is not None and self.state.best:
            attention.load_state_dict(self.state.best)
        attention.origin = Origin.of(
            self.classifier.model,
            recipe={**self.settings, "epochs": self.state.epoch},
            normalization=dataclasses.asdict(self.classifier.pixels),
            input_size=self.input_size,
        )
        return attention

    def _seed_of_step(self) -> int:
        """Another for every step, the same in a training that was interrupted before it."""
        rank = self.accelerator.process_index
        numbers = (self.plan.seed, self.state.epoch, self.state.step, rank)
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])
