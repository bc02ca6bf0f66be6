"""Train an attention mechanism beside a frozen classifier."""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..attention import AttentionMechanism
from ..classifier import FrozenClassifier, ReshapeTransform
from ..masking import Normalization
from .loop import Plan, TrainingRun
from .recipes import TrainingRecipe, find_recipe


class LearnableCAMTrainer:
    """Trains an attention mechanism; the classifier stays bit for bit what it was.

    Each step takes a clean pass (the feature maps and, by default, the predicted class as label)
    and a second pass on a masked image. With the default recipe the mask is what inference shows
    and scores: the map min-max normalised, whole or cut to its highest pixels (`EveryThreshold`).
    With the paper's it is the sigmoid of the map, on the image or the features (`LCAMRecipe`).

    Args:
        model: the classifier, giving class scores (N, K), K > 1.
        target_layers: its layers whose feature maps the attention reads, as modules or names. With
            the default recipe they are fused into one map at the finest grid; the one that the head
            reads comes last. With the paper's, several layers are trained side by side, each with
            its own masked pass.
        recipe: "every-threshold", "l-cam-img", "l-cam-fm", or a recipe of your own: any object with
            the members of `TrainingRecipe`.
        normalization: what the loader's images went through; needed to mask in [0, 1] pixel space.
        start: "head" (the classifier's own head, calibrated on the first batch where it is not
            global average pooling and a linear layer), "random" (the paper; not with the default
            recipe), another start of the recipe's own, or an attention of any mechanism; unless
            given, the recipe's first.
        labels: "predicted" explains the classifier's own choice (the paper), "dataset" takes the
            loader's labels.
        reshape_transform: as in pytorch-grad-cam, for layers of tokens.
        epochs: passes over the loader.
        patience: stop after so many epochs without a lower validation average drop, and return the
            best epoch's attention; None trains all epochs and returns the last.
        seed: of the weights, the order of the images and their augmentation.
        output_dir: where the training state, the history (CSV, PNG) and the attention go.
        checkpoint_every: save the state every so many steps too, not only after each epoch.
        device: "cpu" to stay off the accelerator; None lets accelerate choose.
        mixed_precision: "no", "bf16" or "fp16", as in accelerate.
        progress: show a bar with the loss terms and the time left.

    Raises:
        ValueError: no normalisation, an unknown recipe, start or label source.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
    ...                     nn.Flatten(), nn.Linear(8, 5))
    >>> loader = [torch.rand(4, 3, 16, 16) for _ in range(2)]  # images in [0, 1], not normalised
    >>> trainer = LearnableCAMTrainer(net, [net[1]], normalization=Normalization([0], [1]),
    ...                               epochs=2, progress=False, device="cpu")
    >>> attention = trainer.fit(loader)
    >>> attention.channels, [row["epoch"] for row in trainer.history]
    ({'1': 8}, [1, 2])
    """

    def __init__(
        self,
        model: nn.Module,
        target_layers: Iterable[nn.Module | str],
        *,
        recipe: str | TrainingRecipe = "every-threshold",
        normalization: Normalization | None = None,
        start: AttentionMechanism | str | None = None,
        labels: Literal["predicted", "dataset"] = "predicted",
        reshape_transform: ReshapeTransform | None = None,
        epochs: int = 8,
        patience: int | None = None,
        seed: int = 0,
        output_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        device: Literal["cpu"] | None = None,
        mixed_precision: Literal["no", "bf16", "fp16"] = "no",
        progress: bool = True,
    ) -> None:
        self.recipe = chosen = find_recipe(recipe)
        if not isinstance(normalization, Normalization):
            raise ValueError(
                "normalization is missing: the mask acts on pixels in [0, 1], so the mean and std "
                "that your images went through must be declared, for example Normalization(mean="
                "[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]), or Normalization([0], [1]) "
                f"for images left in [0, 1]; got {normalization!r}"
            )
        self.classifier = FrozenClassifier.of(
            model, target_layers, normalization, reshape_transform
        )
        starts = list(chosen.starts)
        start = starts[0] if start is None else start
        given = None if isinstance(start, str) else start
        if not (start in starts if given is None else hasattr(given, "attach")):
            raise ValueError(
                f"the recipe {chosen.name!r} has no {start} start: start must be one of "
                f"{starts} or an attention; or take another recipe"
            )
        if labels not in ("predicted", "dataset"):
            raise ValueError(f"labels must be 'predicted' or 'dataset', got {labels!r}")
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        kind = start if isinstance(start, str) else "attention"
        self.output_dir = out = None if output_dir is None else Path(output_dir)
        self.plan = Plan(
            chosen, kind, given, labels, epochs, patience, seed, out, checkpoint_every, progress
        )
        self.device, self.mixed_precision = device, mixed_precision
        self.history: list[dict[str, float]] = []

    def fit(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        resume: bool = False,
    ) -> AttentionMechanism:
        """Train, and return the attention on the CPU.

        Args:
            train_loader: gives batches of images (N, C, H, W), or tuples that start with
                (images, labels); anything that can be iterated once an epoch.
            val_loader: the same; average drop and increase in confidence are taken on it before
                the first epoch and after each.
            resume: continue from the state in `output_dir`, if there is one; the result is the
                one of a training that was never interrupted.

        Raises:
            FileExistsError: `output_dir` holds a training already, and `resume` is False.
            CheckpointError: the state belongs to other settings, or is damaged.
            ValueError: NaN images, an empty loader, a wrong normalisation, labels out of range.
            FloatingPointError: the loss became NaN or infinite; the last state is on disk.
        """
        from accelerate import Accelerator  # the extra `train`: explaining does without it

        if self.plan.patience is not None and val_loader is None:
            raise ValueError("patience needs a val_loader to watch")
        state_path = self.output_dir and self.output_dir / "training.safetensors"
        if state_path and state_path.exists() and not resume:
            raise FileExistsError(
                f"{self.output_dir} holds a training already: pass resume=True to continue it, or "
                "choose another output_dir"
            )
        accelerator = Accelerator(cpu=self.device == "cpu", mixed_precision=self.mixed_precision)
        with _random_state_kept(), self.classifier.held(accelerator.device):
            run = TrainingRun(self.classifier, self.plan, accelerator, train_loader)
            if state_path and state_path.exists():
                run.resume(state_path)
            self.history = run.state.history
            run.train(val_loader, state_path)
            attention = run.result()
        if self.output_dir and accelerator.is_main_process:
            attention.save_pretrained(self.output_dir / "attention")
        return attention


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """The caller's random generators, as they were, after a block that seeds them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
