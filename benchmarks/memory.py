"""Peak memory of an explanation, each measured in a process of its own."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from .methods import METHODS, Explain, opened, untrained
from .testbed import Testbed, blank


@contextmanager
def bare(bed: Testbed) -> Iterator[Explain]:
    """The classifier's forward pass without a graph, called as a method is."""
    with torch.no_grad():
        yield lambda images, _: bed.model(images)


def peak_memory(network: str, method: str | None, batch: int, device: str) -> float:
    """MiB that a call of a method, by name, or of the bare forward pass (None) takes at its peak,
    beyond the classifier and the `batch` images: the process's resident memory (on Linux) if the
    device is "cpu", the allocator's if it is "cuda"."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (network, method, batch, device))


def _measure(network: str, method: str | None, batch: int, device: str) -> float:
    bed = blank(network, device, images=batch)
    # The masks' number changes the time, not the memory.
    bed = replace(bed, network=replace(bed.network, rise_masks=64))
    images, classes = bed.pictures.images.to(device), bed.pictures.classes
    chosen = METHODS[method] if method else None
    attention = untrained(bed, chosen.learned) if chosen and chosen.learned else None
    before = _now(device)
    with opened(chosen, bed, attention) if chosen else bare(bed) as explain:
        explain(images, classes)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")
    return round((peak - before) / 2**20, 1)


def _now(device: str) -> int:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    return _status("VmRSS")


def _status(key: str) -> int:
    """Bytes of this process's memory, as Linux counts it."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])
