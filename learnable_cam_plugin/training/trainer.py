"""Train an attention mechanism beside a frozen classifier."""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..attention import AttentionMechanism
from ..classifier import FrozenClassifier, ReshapeTransform
from ..masking import Normalization
from .checks import check_extra, check_weights
from .folder import check_own, held_folder
from .loaders import check_loader, generators_of
from .loop import TrainingRun
from .plan import Plan
from .processes import own_accelerator
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
        mixed_precision: "no", "bf16" or, on a GPU, "fp16", as in accelerate.
        progress: show a bar with the loss terms and the time left.

    Attributes:
        attention: what the last `fit` trained, in eval mode on the CPU, also where it was broken
            off, by an error or by hand: as after the last step that went well. None before that.
        history: a row an epoch of the last `fit`.

    Raises:
        ValueError, TypeError: no normalisation, an unknown recipe, start, label source, device or
            precision, or a number out of its range.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
    ...                     nn.Flatten(), nn.Linear(8, 5))
    >>> loader = [torch.rand(4, 3, 16, 16) for _ in range(2)]  # images in [0, 1], not normalised
    >>> from learnable_cam_plugin import EveryThreshold
    >>> recipe = EveryThreshold(mosaics=0)  # of four classes a batch, which four images seldom are
    >>> trainer = LearnableCAMTrainer(net, [net[1]], normalization=Normalization([0], [1]),
    ...                               recipe=recipe, epochs=2, progress=False, device="cpu")
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
        if reshape_transform is not None and not callable(reshape_transform):
            raise TypeError(f"reshape_transform must be a function, got {reshape_transform!r}")
        kind = start if isinstance(start, str) else "attention"
        self.output_dir = out = None if output_dir is None else Path(output_dir)
        self.plan = Plan(
            recipe=chosen,
            start=kind,
            given=given,
            labels=labels,
            epochs=epochs,
            patience=patience,
            seed=seed,
            output_dir=out,
            checkpoint_every=checkpoint_every,
            device=device,
            mixed_precision=mixed_precision,
            progress=progress,
        )
        self.history: list[dict[str, float]] = []
        self.attention: AttentionMechanism | None = None

    def fit(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        resume: bool = False,
    ) -> AttentionMechanism:
        """Train, and return the attention on the CPU.

        Args:
            train_loader: gives batches of normalised images (N, C, H, W), floating-point; or tuples
                that start with (images, labels); or dictionaries with the images under "image",
                "images", "pixel_values" or "img", and the labels, if they are needed, under
                "label", "labels", "target" or "targets", or second in a tuple. Anything that can
                be iterated anew each epoch: a DataLoader, of an IterableDataset too, a list.
            val_loader: the same; average drop and increase in confidence are taken on it before
                the first epoch and after each.
            resume: continue from the state in `output_dir`, if there is one; the result is the
                one of a training that was never interrupted. The number of batches and the first
                one of them must be what they were; later batches are not compared.

        Of several processes (`accelerate launch`), each takes the whole loader and computes its
        part of every batch: they train what one process does, or the recipe is refused.

        Raises:
            FileExistsError: `output_dir` holds a training already, and `resume` is False; or a
                history, or an attention's folder, that is something else's.
            OSError: `output_dir` cannot be written to.
            RuntimeError: another training is writing to it.
            CheckpointError: the state belongs to other settings, or is damaged.
            ValueError, TypeError: a loader that is empty or can be iterated once, images that are
                NaN or not normalised as declared, labels out of range; a classifier that gives
                probabilities, is in half precision, passes no gradient on, or whose layer's
                channels come last; several processes with a recipe that cannot be shared.
            FloatingPointError: the loss, a gradient or the attention became NaN or infinite; the
                state on disk and `attention` are of a step before.
        """
        if self.plan.patience is not None and val_loader is None:
            raise ValueError("patience needs a val_loader to watch")
        check_extra()
        check_loader(train_loader, "training")
        if val_loader is not None:
            check_loader(val_loader, "validation")
        check_weights(self.classifier.model)
        self.history, self.attention = [], None
        # whatever the caller's block forbids: training takes gradients
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            own_accelerator(self.plan.device, self.plan.mixed_precision) as accelerator,
            held_folder(self.output_dir if accelerator.is_main_process else None),
        ):
            state_path = self.output_dir and self.output_dir / "training.safetensors"
            earlier = state_path if state_path and state_path.exists() else None
            if earlier and not resume:
                raise FileExistsError(
                    f"{self.output_dir} holds a training already: pass resume=True to continue it, "
                    "or choose another output_dir"
                )
            if self.output_dir:
                check_own(self.output_dir)
            with (
                _random_state_kept(train_loader, val_loader),
                self.classifier.held(accelerator.device),
            ):
                run = TrainingRun(self.classifier, self.plan, accelerator, train_loader, val_loader)
                if earlier:
                    run.resume(earlier)
                self.history = run.state.history
                try:
                    run.train(state_path)
                except BaseException:
                    with suppress(Exception):  # a device that is lost gives nothing back
                        self.attention = run.result(ended=False)
                    raise
                attention = self.attention = run.result(ended=True)
            assert attention is not None  # it has trained an epoch
            if self.output_dir and accelerator.is_main_process:
                attention.save_pretrained(self.output_dir / "attention")
        return attention


@contextmanager
def _random_state_kept(*loaders: Any) -> Iterator[None]:
    """The caller's random generators and the loaders' own, as they were, after a block that seeds
    them."""
    found = [generator for loader in loaders for generator in generators_of(loader)]
    own = [(generator, generator.get_state()) for generator in found]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for generator, state in own:
            generator.set_state(state)
