"""No number that is not finite gets into the attention or onto the disk, and its cause is named."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..classifier import FrozenClassifier, not_finite_images
from ..wording import listed

Named = Iterable[tuple[str, Tensor | None]]


def not_finite(tensors: Named) -> list[str]:
    """The names of the tensors that hold NaN or infinity; one synchronisation if none does."""
    given = [(n, t.detach()) for n, t in tensors if t is not None and t.is_floating_point()]
    if not given:
        return []
    device = given[0][1].device  # optimisers count their steps on the CPU
    fine = torch.stack([torch.isfinite(tensor).all().to(device) for _, tensor in given])
    return [name for (name, _), ok in zip(given, fine.tolist(), strict=True) if not ok]


def check_terms(
    values: Mapping[str, float],
    where: str,
    classifier: FrozenClassifier,
    images: Tensor,
    rate: float,
) -> None:
    """FloatingPointError if the loss is not finite, naming what is the first to be not: the feature
    maps of some images, or a term."""
    if math.isfinite(values["loss"]):
        return
    features, _ = classifier.clean_pass(images)
    for layer, found in features.items():
        bad = not_finite_images(found)
        if bad:
            cause = (
                f"The feature maps at '{layer}' of the images {bad} of the batch are not, before "
                "any mask: check the classifier's weights and these images, or train without mixed "
                "precision"
            )
            break
    else:
        terms = [name for name, v in values.items() if name != "loss" and not math.isfinite(v)]
        cause = (
            f"The classifier's own pass is; not finite is {', '.join(terms) or 'their sum'}. Lower "
            f"the learning rate ({rate:g}), change the weights of the recipe's terms, or train "
            "without mixed precision"
        )
    raise FloatingPointError(f"the loss is not finite at {where}: {dict(values)}. {cause}")


def check_gradients(parameters: Named, loss: float, where: str, recipe: str) -> None:
    """FloatingPointError if a gradient is not finite, naming the parameters."""
    bad = not_finite((name, None if p is None else p.grad) for name, p in parameters)
    if bad:
        raise FloatingPointError(
            f"the gradient of {listed(bad)} is not finite at {where}, though the loss is ({loss:g}"
            f"): a derivative in the recipe {recipe!r} or in the attention, such as that of a root "
            "or a norm at 0, or of a logarithm near it. Add a small number inside it. The "
            "attention is as it was before the step"
        )


class Kept:
    """What the attention holds before a step, to go back to where the step spoils it."""

    def __init__(self, attention: nn.Module) -> None:
        self.tensors = attention.state_dict(keep_vars=True)
        self.values = {name: value.detach().clone() for name, value in self.tensors.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to it."""
        for name, value in self.values.items():
            self.tensors[name].copy_(value)

    @torch.no_grad()
    def check(self, optimizer: torch.optim.Optimizer, where: str, rate: float) -> None:
        """FloatingPointError if the attention, or what the optimiser remembers, is not finite; the
        attention is then as it was before the step."""
        names = {id(tensor): name for name, tensor in self.tensors.items()}
        slots = [
            (f"{slot} of {names.get(id(parameter), 'a parameter')} in the optimiser", value)
            for parameter, own in optimizer.state.items()
            for slot, value in own.items()
            if isinstance(value, Tensor)
        ]
        bad = not_finite([*self.tensors.items(), *slots])
        if bad:
            self.restore()
            raise FloatingPointError(
                f"{listed(bad)} is not finite after {where}, though its loss and its gradient "
                f"are: lower the learning rate ({rate:g}), or clip the gradient (the recipe's "
                "max_norm). The attention is as it was before the step"
            )
