"""The classifier that is explained: what it is read at, its clean pass, and how it is held."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..masking import Normalization
from .checks import check_finite, check_images, class_scores, not_finite_images, run_on
from .doubts import (
    check_tokens,
    tell_of_moved_images,
    tell_of_no_places,
    tell_of_other_branches,
    tell_of_other_tokens,
    tell_of_several_runs,
)
from .find import find_layers, reads_one_place
from .guards import channels_last, evaluating, frozen, on_device
from .layers import (
    ReshapeTransform,
    Spread,
    StaleError,
    first_convolution,
    forward_with_features,
    layer_names,
)
from .record import linear_of, record
from .rerun import reaches_scores
from .scores import top_class
from .spread import spread_of
from .wrappers import bare


@dataclass(frozen=True)
class FrozenClassifier:
    """A classifier and how its feature maps are read. Nothing here changes it for good.

    Attributes:
        model, layers: gives class scores (N, K); name -> module of the target layers. The linear
            layer that gives the scores may be one: its maps are what it is given, told apart by
            place, which the first pass finds out.
        normalization: what its images went through; needed to mask them.
        reshape_transform: as in pytorch-grad-cam, for layers of tokens; those that make a grid of
            the images' proportions need none.
        as_grid: layers that were found, not named, and which it is not for.
        one_place: whether the images by which they were found leave the head's layer one place, so
            that an earlier one is read: of larger images another one would be.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> features, scores = FrozenClassifier.of(net, ["0"]).clean_pass(torch.rand(2, 3, 5, 6))
    >>> tuple(features["0"].shape), tuple(scores.shape)
    ((2, 4, 3, 4), (2, 4))
    """

    model: nn.Module
    layers: Mapping[str, nn.Module]
    normalization: Normalization | None = None
    reshape_transform: ReshapeTransform | None = None
    as_grid: frozenset[str] = frozenset()
    one_place: bool = False
    spreads: dict[str, Spread] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        target_layers: Iterable[nn.Module | str],
        normalization: Normalization | None = None,
        reshape_transform: ReshapeTransform | None = None,
    ) -> "FrozenClassifier":
        """Of a model, read at layers given as modules or names; see `layer_names` and `bare`."""
        layers = layer_names(model, target_layers)
        return cls(bare(model), layers, normalization, reshape_transform)

    @classmethod
    def found(
        cls,
        model: nn.Module,
        images: Tensor,
        named: Iterable[nn.Module | str] = (),
        normalization: Normalization | None = None,
        reshape_transform: ReshapeTransform | None = None,
    ) -> "FrozenClassifier":
        """Of a model, read at the layers that one pass of a few images shows: see `find_layers`.

        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 8, 3, 2), nn.ReLU(),
        ...                     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> list(FrozenClassifier.found(net, torch.rand(1, 3, 32, 32)).layers)
        ['0', '2']
        """
        names = list(layer_names(model, named)) if named else []
        runs, scores = record(model, check_images(images)[:2])
        outputs = [(run.name, run.output) for run in runs if isinstance(run.output, Tensor)]
        batched = {n: out for n, out in outputs if out.ndim > 1 and len(out) == len(scores)}
        check_finite([], scores, batched, model)  # first: a head would be linearised in vain
        with evaluating(model):  # parts of the head are tried
            read, spread, linear, known = find_layers(model, runs, scores, names)
        layers = layer_names(model, read)
        tell_of_several_runs(model, runs, read, known)
        tell_of_moved_images(model, images)
        if not known and read[-1] not in names:
            tell_of_other_branches(model, layers[read[-1]], read[-1], images, scores)
        if reshape_transform is None:
            tell_of_no_places(runs, names, read)
            watched = () if spread is None else spread.watched
            shown = [r for r in runs if r.name in read or r.module in watched]
            check_tokens(shown, runs, len(scores))
            if not known:
                tell_of_other_tokens(shown, linear, runs)
        for name in layers.keys() & set(names):
            gives = any(run.name == name and isinstance(run.output, Tensor) for run in runs)
            if gives and not reaches_scores(model, layers[name], images[:2]):
                raise ValueError(
                    f"the class scores do not depend on what target layer '{name}' gives: it is "
                    "in a side branch. Name a layer that leads to the scores, or none at all"
                )
        plain = frozenset(layers) - frozenset(names)
        small = not known and reads_one_place(runs, scores)
        classifier = cls(bare(model), layers, normalization, reshape_transform, plain, small)
        if spread is not None:
            classifier.spreads[read[-1]] = spread
        return classifier

    def _find_spreads(self, images: Tensor, anew: bool = False) -> None:
        """How the input of those layers that are linear is told apart by place, where not known."""
        heads = [n for n, layer in self.layers.items() if isinstance(layer, nn.Linear)]
        if any(anew or name not in self.spreads for name in heads):
            runs, scores = record(self.model, images[:2])
            linear = linear_of(runs, scores)
            with evaluating(self.model):
                spread = None if linear is None else spread_of(runs, linear)
            if linear is not None and spread is not None:
                self.spreads[linear.name] = spread

    @property
    def pixels(self) -> Normalization:
        """The normalisation, where it is needed; else an error."""
        if self.normalization is None:
            raise ValueError(
                "masking acts on pixels in [0, 1], and no normalization was declared: pass "
                "normalization=Normalization(mean, std), the one that your images went through"
            )
        return self.normalization

    @torch.no_grad()
    def read(
        self,
        images: Tensor,
        forward: Callable[..., Any] | None = None,
        modules: Sequence[nn.Module] | None = None,
    ) -> tuple[Any, dict[str, Tensor]]:
        """One pass of images (N, C, H, W) or (N, C, D, H, W) in eval mode, without a graph: (the
        output, layer name -> its maps). `forward` runs the model, for whoever watches the pass;
        `modules` are those of the model, where they are known."""
        check_images(images)
        self._find_spreads(images)
        try:
            return self._read(images, forward, modules)
        except StaleError:
            self._find_spreads(images, anew=True)
            return self._read(images, forward, modules)

    def _read(
        self,
        images: Tensor,
        forward: Callable[..., Any] | None,
        modules: Sequence[nn.Module] | None,
    ) -> tuple[Any, dict[str, Tensor]]:
        with evaluating(self.model, modules), run_on(self.model, images):
            return forward_with_features(
                forward or self.model,
                self.layers,
                images,
                reshape_transform=self.reshape_transform,
                as_grid=self.as_grid,
                spreads=self.spreads,
                first=first_convolution(modules or self.model.modules()),
            )

    def clean_pass(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Layer name -> feature maps, and the class scores (N, K), of images without a mask.

        Raises:
            ValueError: the model gives one score.
            FloatingPointError: scores are NaN or infinite, and so tell no class.
        """
        outputs, features = self.read(images.clone())  # it may work in place on them
        scores = class_scores(outputs)
        if scores.shape[1] < 2:  # no masked image can compete with a single score
            raise ValueError(
                "the model gives one score; training needs one a class. Wrap a binary classifier "
                "so that it returns two, for example torch.cat([-z, z], 1)."
            )
        if not bool(torch.isfinite(scores.sum(dtype=torch.float32))):
            bad = not_finite_images(scores)
            raise FloatingPointError(
                f"the classifier's own scores of the images {bad} of the batch are not finite, "
                "before any mask: check its weights and these images, or train without mixed "
                "precision"
            )
        return features, scores

    @contextmanager
    def held(self, device: torch.device) -> Iterator[None]:
        """For the length of the block on `device`, in eval mode, with no gradient of its own."""
        with on_device(self.model, device), channels_last(self.model), frozen(self.model):
            yield


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Probability and index of the top class, (N,) each; see `top_class`."""
    with evaluating(model):
        return top_class(class_scores(model(images)))
