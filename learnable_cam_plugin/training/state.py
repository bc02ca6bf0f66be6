"""What a training needs to go on after an interruption."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint
from ..attention import Origin
from ..checkpoint import CheckpointError


@dataclass
class TrainingState:
    """Where a training is.

    Attributes:
        epoch: epochs finished.
        step: steps done in the epoch under way.
        sums: of the loss terms over that epoch's images so far.
        history: a row an epoch.
        best: the attention's tensors at the lowest validation average drop.
        best_value: that average drop.
        stale: epochs since.
        validated: images that were validated on.
        scaler: of fp16's loss, as `torch.amp.GradScaler.state_dict` has it.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_value: float = math.inf
    stale: int = 0
    validated: int = 0
    scaler: dict[str, float] = field(default_factory=dict)

    def judge(self, value: float, attention: nn.Module) -> None:
        """Remember the attention if its validation average drop is the lowest so far."""
        if value < self.best_value:
            self.best_value, self.stale = value, 0
            self.best = {k: v.detach().cpu().clone() for k, v in attention.state_dict().items()}
        else:
            self.stale += 1

    def save(
        self,
        path: Path,
        attention: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: Mapping[str, Any],
    ) -> None:
        """Write the state, the attention and the optimiser's tensors, atomically."""
        tensors = {f"attention.{k}": v for k, v in attention.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for index, slots in optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        values = {name: value for name, value in vars(self).items() if name != "best"}
        values["best_value"] = self.best_value if self.best else None
        record = {"training": values, "settings": dict(settings)}
        checkpoint.save(path, tensors, record)

    def load(
        self,
        path: Path,
        attention: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: Mapping[str, Any],
        model: nn.Module,
    ) -> None:
        """Read what `save` wrote into this state, the attention and the optimiser; CheckpointError
        if it was made with other settings or beside another classifier, or is damaged."""
        tensors, record = checkpoint.load(path)
        if "training" not in record:
            raise CheckpointError(f"{path} holds no training state")
        differing = _differing(record["settings"], settings)
        if differing:
            raise CheckpointError(
                f"{path} belongs to a training with other settings: {'; '.join(differing)}"
            )
        other = Origin.from_record(record["settings"]["classifier"]).difference(model)
        if other:
            raise CheckpointError(f"{path} belongs to a training of another classifier: {other}")
        groups: dict[str, dict[str, Tensor]] = {"attention": {}, "best": {}, "optimizer": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            groups[kind][rest] = value
        attention.load_state_dict(groups["attention"])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in groups["optimizer"].items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
        values = record["training"]
        best_value = values.pop("best_value")
        vars(self).update(values)
        self.best = groups["best"]
        self.best_value = math.inf if best_value is None else best_value


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each setting that differs, with both sides; of the loader what both know."""
    plain = sorted({*then, *now} - {"classifier", "loader"})
    sides = [(key, then.get(key), now.get(key)) for key in plain]
    before, after = then.get("loader", {}), now.get("loader", {})
    both = {*before} & {*after} - (set() if then.get("seed") == now["seed"] else {"first_batch"})
    sides += [(f"loader's {key}", before[key], after[key]) for key in sorted(both)]
    return [f"{key}: {old!r} then, {new!r} now" for key, old, new in sides if old != new]
