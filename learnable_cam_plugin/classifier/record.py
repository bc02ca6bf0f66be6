"""One pass of a classifier with everything that its modules were given and gave."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Size, Tensor, nn

from .checks import class_scores, run_on
from .grid import as_grid
from .guards import evaluating
from .layers import applies, own_copy, size_given, watching
from .scores import gives_scores
from .wrappers import bare, core, uncompiled


@dataclass(frozen=True, eq=False)  # a run is itself: tensors do not compare
class Run:
    """What a module, by its name free of wrappers, was given first, and gave."""

    name: str
    module: nn.Module
    given: Any
    output: Any
    size: Size  # of the images, as the network is given them
    last: bool  # of this module in the pass: the one that is seen where its maps are read

    def maps(self) -> Tensor | None:
        """Its output as feature maps (N, C, h, w) that can be read; None if it is none. Of a module
        that gives several things, as an attention layer does, none is; nor of one that runs again,
        as an activation that serves the maps and then the head."""
        return as_grid(self.output, self.size) if self.last else None


@torch.no_grad()
def record(model: nn.Module, images: Tensor) -> tuple[list[Run], Tensor]:
    """The runs of all modules, in the order in which they ended, and the class scores (N, K).

    Everything is kept until the answer is dropped: pass two images or so.
    """
    seen: list[tuple[str, nn.Module, Any, Any]] = []

    def keep(name: str, module: nn.Module, given: Any, output: Any) -> None:
        seen.append((name, module, given, own_copy(output)))

    named = core(model).named_modules()
    hooks = [(module, partial(keep, name, module)) for name, module in named if name]
    with evaluating(model), run_on(model, images), watching(hooks):
        outputs = uncompiled(bare(model))(images.clone())  # it may work in place on them
    scores = class_scores(outputs)
    if len(scores) != len(images):
        raise ValueError(
            f"the model returns {tuple(outputs.shape)} for {len(images)} images; class scores (N, "
            "K) are needed, a row an image: does it drop dimensions of 1, as squeeze() does?"
        )
    ends = {one[1]: number for number, one in enumerate(seen)}
    given = next((given for _, module, given, _ in seen if isinstance(module, nn.Conv2d)), None)
    size = size_given(given, images)
    runs = [Run(*one, size, ends[one[1]] == number) for number, one in enumerate(seen)]
    return runs, scores


def linear_of(runs: list[Run], scores: Tensor) -> Run | None:
    """The run of the linear layer that gave the scores, or what they are the softmax of, from one
    vector an image, if one did."""
    for run in reversed(runs):
        linear = isinstance(run.module, nn.Linear) and run.given.ndim == 2
        if linear and run.last and gives_scores(run.output, scores):
            return run if applies(run.module, run.given, run.output) else None  # type: ignore[arg-type]
    return None
