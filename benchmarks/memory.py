"""Peak memory of an explanation, each measured in a process of its own."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path

import torch

from .methods import METHODS, opened, untrained
from .testbed import blank


def peak_memory(network: str, method: str | None, batch: int, device: str) -> float:
    """MiB that a call takes at its peak, beyond the classifier and the images.

    Args:
        network: by name, as `testbed.blank` takes it.
        method: by name; None measures the bare forward pass.
        batch: images a call.
        device: "cpu" counts the process's resident memory (on Linux), "cuda" the allocator's.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (network, method, batch, device))


def _measure(network: str, method: str | None, batch: int, device: str) -> float:
    bed = blank(network, device, images=batch)
    # The masks' number changes the time, not the memory.
    bed = dataclasses.replace(bed, network=dataclasses.replace(bed.network, rise_masks=64))
    images, classes = bed.pictures.images.to(device), bed.pictures.classes
    if method is None:
        before = _now(device)
        with torch.no_grad():
            bed.model(images)
    else:
        chosen = METHODS[method]
        attention = untrained(bed, chosen.learned) if chosen.learned else None
        before = _now(device)
        with opened(chosen, bed, attention) as explain:
            explain(images, classes)
    return round((_peak(device) - before) / 2**20, 1)


def _now(device: str) -> int:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    return _status("VmRSS")


def _peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    """Bytes of this process's memory, as Linux counts it."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])
