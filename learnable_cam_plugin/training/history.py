"""The history that a training leaves: a table and a picture."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..atomic import atomic_path


def write_history(
    folder: Path, history: Sequence[Mapping[str, float]], terms: Sequence[str]
) -> None:
    """Write history.csv and history.png, each atomically.

    Args:
        folder: where.
        history: a row an epoch.
        terms: the recipe's, drawn where the history has them; beside them what was validated.
    """
    names = list(dict.fromkeys(name for row in history for name in row))
    with atomic_path(folder / "history.csv") as path, open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(history)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    validated = [name for name in names if name.startswith("val_")]
    panels = {"mean over the epoch's images": terms, "validation, percent": validated}
    shown = {label: [n for n in chosen if n in names] for label, chosen in panels.items()}
    shown = {label: chosen for label, chosen in shown.items() if chosen}
    for axis, (label, chosen) in zip(
        figure.subplots(1, max(1, len(shown)), squeeze=False)[0], shown.items(), strict=False
    ):
        for name in chosen:
            rows = [row for row in history if name in row]
            axis.plot(
                [row["epoch"] for row in rows],
                [row[name] for row in rows],
                marker="o",
                label=name.removeprefix("val_").replace("_", " "),
            )
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.legend()
    with atomic_path(folder / "history.png") as path:
        figure.savefig(path, dpi=110)
