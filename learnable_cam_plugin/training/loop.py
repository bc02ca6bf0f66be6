"""One training in progress: the steps, the epochs, the validation."""

import copy
import dataclasses
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from ..attention import AttentionMechanism, Origin
from ..classifier import FrozenClassifier
from ..wording import warn
from .batches import images_of, labels_of
from .checks import check_clean_pass, check_taught, check_teaching
from .finite import Kept, check_gradients, check_terms
from .history import write_history
from .loaders import count_batches, fingerprint, first_batch, length_of, seed_epoch
from .plan import Plan
from .processes import Shares, check_attention, check_recipe
from .state import TrainingState
from .validation import validate

# fp16 halves its scale with every step that it skips: from 65536 to 1 / 256
_SKIPPED = 24


class TrainingRun:
    """What `LearnableCAMTrainer.fit` makes, and throws away when it is done.

    Made, it has seen the first batches, and found whatever speaks against the training. The
    classifier is held, frozen and on the accelerator's device, for as long as it lives.
    """

    def __init__(
        self,
        classifier: FrozenClassifier,
        plan: Plan,
        accelerator: Any,
        loader: Iterable[Any],
        val_loader: Iterable[Any] | None,
    ) -> None:
        self.classifier, self.plan = classifier, plan
        self.accelerator, self.shares = accelerator, Shares(accelerator)
        self.loader, self.val_loader = loader, val_loader
        self.state = TrainingState()
        check_recipe(plan.recipe, self.shares.count)
        if val_loader is not None:
            self._images(first_batch(val_loader, "validation"))
        self.steps = length_of(loader)
        if self.steps is None and plan.within_epochs:
            self.steps = count_batches(loader, plan.progress)
        seed_epoch(loader, plan.seed, 0)
        batch = first_batch(loader, "training")
        first = self._images(batch)
        check_clean_pass(classifier, first)
        known = {}
        if plan.output_dir or getattr(loader, "persistent_workers", False):
            known = fingerprint(loader, batch, plan.seed)
        self.input_size = tuple(first.shape[1:])
        self.plain = self._start(first).train()
        check_attention(self.plain, self.shares.count)
        self._labels(batch, first)
        self.shares.start_alike(self.plain)
        self.blank = copy.deepcopy(self.plain)  # preparing puts mixed precision into its forward
        mechanism = {"name": type(self.plain).__name__, **self.plain.settings()}
        self.settings = {**plan.settings(classifier), "attention": mechanism, "loader": known}
        self.step = plan.recipe.step(classifier, first)
        self.optimizer = plan.recipe.make_optimizer(self.plain)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        # for evaluation, so that gradients are shared here, whatever parts the batch has
        self.attention = accelerator.prepare_model(self.plain, evaluation_mode=True)
        self.prepared = accelerator.prepare_optimizer(self.optimizer)
        self.taught, self.skipped = False, 0
        self.under_way: Kept | None = None  # what a step was cut off from

    def _start(self, images: Tensor) -> AttentionMechanism:
        plan = self.plan
        if plan.given is None:
            return plan.recipe.start(self.classifier, images, plan.start, plan.seed, plan.progress)
        attention = copy.deepcopy(plan.given)
        attention.attach(self.classifier.model, list(self.classifier.layers))
        return attention.to(images.device).float()  # one in half precision learns in float32

    def _images(self, batch: Any) -> Tensor:
        images = images_of(batch, self.accelerator.device)
        self.classifier.pixels.check(images)
        return images

    def _labels(self, batch: Any, images: Tensor) -> Tensor | None:
        if self.plan.labels == "predicted":
            return None
        return labels_of(batch, len(images), images.device, self.plain.num_classes)

    def resume(self, path: Path) -> None:
        """Go on from a state on disk; CheckpointError if it has other settings or is damaged."""
        self.state.load(path, self.plain, self.optimizer, self.settings, self.classifier.model)
        first = ("epoch", "images", "seconds", *self.plan.recipe.terms)
        for i, row in enumerate(self.state.history):  # a file has them by name
            self.state.history[i] = {name: row[name] for name in first if name in row} | row
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(self.state.scaler)

    def train(self, state_path: Path | None) -> None:
        """All epochs that are left."""
        state, plan = self.state, self.plan
        late = self.val_loader is not None and not state.validated
        if state.epoch > plan.epochs or (state.epoch == plan.epochs and late):
            warn(
                f"{plan.output_dir} holds a training of {state.epoch} epochs already, and epochs="
                f"{plan.epochs} asks for no more: nothing is trained, or validated, anew"
            )
        elif self.val_loader is not None and not (state.history or state.epoch or state.step):
            self._end_epoch(0, time.perf_counter())
        self._write_history()  # a resumed one may lack its last row
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
                if self.val_loader is not None:
                    self._save(state_path)  # what was trained is not lost with a validation
                self._end_epoch(state.epoch + 1, self.began)
                state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
                self._save(state_path)
                self._write_history()

    def _epoch(self, bar: tqdm, state_path: Path | None) -> None:
        state = self.state
        self.began = time.perf_counter() - state.sums.get("seconds", 0.0)
        seed_epoch(self.loader, self.plan.seed, state.epoch + 1)
        for step, batch in enumerate(self.loader):
            if step < state.step:  # seen before the interruption: replayed for the random stream
                continue
            self._set_rate(state.epoch + (min(1.0, step / self.steps) if self.steps else 0.0))
            try:
                images = self._images(batch)
                labels = self._labels(batch, images)
            except (TypeError, ValueError) as error:
                where = f"batch {step + 1} of epoch {state.epoch + 1}"
                raise type(error)(f"{where}: {error}") from error
            self.shares.check_same(images)
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
                "iterated anew each epoch, such as a DataLoader or a list"
            )

    def _set_rate(self, done: float) -> None:
        factor = self.plan.recipe.rate(done, self.plan.epochs)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def _update(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        recipe, rate = self.plan.recipe, max(self.rates)
        where = f"epoch {self.state.epoch + 1}, step {self.state.step + 1}"
        own = self.shares.part(images)
        share = len(own) / len(images)
        terms: dict[str, Tensor] = {}
        if len(own):  # else there are fewer images than processes
            own_labels = None if labels is None else self.shares.part(labels)
            try:
                with self.accelerator.autocast():
                    terms = self.step(self.attention, own, own_labels, self._seed_of_step())
            except FloatingPointError as error:
                raise FloatingPointError(f"{where}: {error}") from error
            missing = [name for name in recipe.terms if name not in terms]
            if missing:
                raise ValueError(
                    f"a step of {recipe.name!r} gave the terms {list(terms)}, without "
                    f"{missing}: its recipe names them in `terms`"
                )
        values = {name: float(terms[name].detach()) if terms else 0.0 for name in recipe.terms}
        values = self.shares.terms(values, share)
        check_terms(values, where, self.classifier, images, rate)
        if terms and not self.taught:
            check_teaching(terms, self.classifier.model, own, recipe.name)
        self.prepared.zero_grad()
        if terms:
            self.accelerator.backward(terms["loss"])
        self.shares.gradients(self.plain.parameters(), share)
        if not self.taught:
            check_taught(self.plain, recipe.name)
            self.taught = True
        if self.accelerator.scaler is None:  # fp16 skips such steps, and lowers its scale
            check_gradients(self.plain.named_parameters(), values["loss"], where, recipe.name)
        if recipe.max_norm is not None:
            self.accelerator.clip_grad_norm_(self.plain.parameters(), recipe.max_norm)
        kept = self.under_way = Kept(self.plain)
        self.prepared.step()
        self.skipped = self.skipped + 1 if self.prepared.step_was_skipped else 0
        if self.skipped == _SKIPPED:
            raise FloatingPointError(
                f"fp16 skipped {_SKIPPED} steps in a row, up to {where}: the gradient is not "
                "finite at any scale. Train with mixed_precision='bf16' or 'no', which says where"
            )
        kept.check(self.optimizer, where, rate)
        self.under_way = None
        return values

    def _validate(self, loader: Iterable[Any]) -> dict[str, float]:
        attention, device = self._attention().to(self.accelerator.device), self.accelerator.device
        found, self.state.validated = validate(
            self.classifier, attention, loader, device, self.shares
        )
        return found

    def _end_epoch(self, epoch: int, began: float) -> None:
        state, sums = self.state, self.state.sums
        images = sums.get("images", 0.0)
        row: dict[str, float] = {"epoch": epoch, "images": images}
        row["seconds"] = round(time.perf_counter() - began, 3)
        row |= {name: sums[name] / images for name in self.plan.recipe.terms if images}
        if self.val_loader is not None:
            row |= self._validate(self.val_loader)
            state.judge(row["val_average_drop"], self.plain)
        state.history.append(row)

    def _write_history(self) -> None:
        if self.plan.output_dir and self.state.history and self.accelerator.is_main_process:
            write_history(self.plan.output_dir, self.state.history, self.plan.recipe.terms)

    def _save(self, path: Path | None) -> None:
        if path and self.accelerator.is_main_process:
            if self.accelerator.scaler is not None:
                self.state.scaler = self.accelerator.scaler.state_dict()
            self.state.save(path, self.plain, self.optimizer, self.settings)

    def _attention(self) -> AttentionMechanism:
        """The attention as it is now, in eval mode, free of what accelerate put into it."""
        attention = copy.deepcopy(self.blank).eval()
        attention.load_state_dict(self.plain.state_dict())
        return attention

    def result(self, ended: bool) -> AttentionMechanism | None:
        """The attention on the CPU, as after its last step; None before the first. Of a training
        that ended, the best epoch's where patience chose one."""
        state = self.state
        if self.under_way is not None:
            self.under_way.restore()
        if not (state.epoch or state.step):
            return None
        attention, rows = self._attention().cpu(), state.history
        trained = [row["images"] for row in rows if row["epoch"]]
        rows = rows[-1:] if state.step == 0 else []  # what was validated is what is returned
        kept = None
        if ended and self.plan.patience is not None and state.best:
            attention.load_state_dict(state.best)
            rows = [min(state.history, key=lambda row: row.get("val_average_drop", math.inf))]
            kept = int(rows[0]["epoch"])
        if kept == 0:
            warn(
                f"none of the {state.epoch} epochs has a lower average drop than the start on the "
                "validation images: the attention is the start, as it was before the first epoch"
            )
        recipe = {k: v for k, v in self.settings.items() if k not in ("classifier", "loader")}
        recipe["epochs"] = state.epoch
        if kept is not None:
            recipe["epoch kept"] = kept
        recipe["images"] = int(trained[-1] if trained else state.sums["images"])
        for row in rows:
            if "val_average_drop" in row:
                recipe["validation"] = {
                    "average_drop": row["val_average_drop"],
                    "increase_in_confidence": row["val_increase_in_confidence"],
                    "images": state.validated,
                }
        attention.origin = Origin.of(
            self.classifier.model,
            recipe=recipe,
            normalization=dataclasses.asdict(self.classifier.pixels),
            input_size=self.input_size,
        )
        return attention

    def _seed_of_step(self) -> int:
        """Another for every step, the same in a training that was interrupted before it."""
        numbers = (self.plan.seed, self.state.epoch, self.state.step, 0)
        return int(np.random.SeedSequence(numbers).generate_state(1)[0])
