"""What an attention mechanism was made for: saved with it, compared with the model at hand."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import Any

from torch import nn

from ..checkpoint import CheckpointError
from ..classifier import ModuleTree, core, tensor_states
from .fingerprint import Fingerprint, differences, fingerprint

_PACKAGES = ("learnable-cam-plugin", "torch", "torchvision", "grad-cam", "captum")
OVERRULE = (
    "An attention explains the classifier beside which it was trained: train it again, or pass "
    "check=False, or set attention.origin = None, to use it all the same"
)


@dataclass(frozen=True)
class Origin:
    """What an attention mechanism was made for; saved with it, checked when it is used.

    Attributes:
        architecture: qualified class name of the classifier, inside its wrappers: a hint in
            messages. A class may move, or get another name; its tensors decide.
        tensors: of every parameter and buffer, see `fingerprint`.
        recipe: how it was trained (variant, loss weights, optimiser, epochs, start, seed, ...).
        normalization: {"mean": [...], "std": [...]} of the images, if declared.
        input_size: (C, H, W) of the images, if known.
        versions: of the libraries.
    """

    architecture: str
    tensors: Fingerprint
    recipe: Mapping[str, Any] = field(default_factory=dict)
    normalization: Mapping[str, Any] | None = None
    input_size: Sequence[int] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, **details: Any) -> "Origin":
        """The origin that describes `model`."""
        kind = type(core(model))
        return cls(
            architecture=f"{kind.__module__}.{kind.__qualname__}",
            tensors=fingerprint(model),
            versions=_versions(),
            **details,
        )

    @classmethod
    def from_record(cls, record: Any) -> "Origin":
        """An origin from what a file holds of it; CheckpointError if that is no origin."""
        try:
            origin = cls(**record)
            tensors = {
                str(name): ([int(size) for size in shape], [float(n) for n in (a, b, c)])
                for name, (shape, (a, b, c)) in origin.tensors.items()
            }
            return dataclasses.replace(
                origin,
                architecture=str(origin.architecture),
                tensors=tensors,
                recipe=dict(origin.recipe),
                normalization=origin.normalization and dict(origin.normalization),
                input_size=origin.input_size and [int(size) for size in origin.input_size],
                versions={str(k): str(v) for k, v in origin.versions.items()},
            )
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"its record of what it was made for is malformed: {error}"
            ) from error

    def difference(self, model: nn.Module) -> str | None:
        """In what `model` is another than this describes, naming both; None if in nothing."""
        other = "; ".join(differences(self.tensors, fingerprint(model)))
        if not other:
            return None
        here, made_for = type(core(model)).__name__, self.architecture.rpartition(".")[2]
        if here != made_for:
            return f"the model is a {here}, the attention was made for a {made_for}: {other}"
        return f"the model is another {here} than the one that the attention was made for: {other}"

    def check(self, model: nn.Module) -> None:
        """Raise CheckpointError for a model of other names, shapes or values of its tensors."""
        other = self.difference(model)
        if other:
            raise CheckpointError(f"{other}. {OVERRULE}")


class Watch:
    """Compares the model with an origin again when a tensor or a module of it was changed, in
    place, as training and `load_state_dict` do, or for another; else it costs some 100
    microseconds."""

    def __init__(self, origin: Origin | None, model: nn.Module) -> None:
        self._origin, self._model = origin, model
        self._tree = ModuleTree(model)
        self._then = [] if origin is None else self._now()

    def check(self) -> None:
        """Raise CheckpointError if it is another now; see `Origin.check`."""
        if self._origin is not None and (now := self._now()) != self._then:
            self._origin.check(self._model)
            self._then = now

    def _now(self) -> list[int]:
        if not self._tree.holds():
            self._tree = ModuleTree(self._model)
        held = [(*m._parameters.values(), *m._buffers.values()) for m in self._tree.modules]
        return tensor_states(chain.from_iterable(held))


def _versions() -> dict[str, str]:
    found = dict.fromkeys(_PACKAGES, "not installed as a package")
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
