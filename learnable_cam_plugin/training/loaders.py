"""Loaders of any kind: checked before the first step, drawn alike for the same seed, and known
again when a training is resumed."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm

from ..wording import warn
from .batches import images_of


def check_loader(loader: Any, kind: str) -> None:
    """Refuse what cannot be iterated anew each epoch, before a batch of it is lost.

    Raises:
        TypeError: it cannot be iterated.
        ValueError: it can be iterated once, as a generator can.
    """
    once = isinstance(loader, Iterator)
    if isinstance(loader, DataLoader):
        batches = loader.batch_sampler
        samplers = (loader.sampler, batches, getattr(batches, "sampler", None))
        once = any(isinstance(sampler, Iterator) for sampler in samplers)
        source: Any = loader.dataset if isinstance(loader.dataset, IterableDataset) else None
    else:
        source = loader
    if source is not None and not once:
        try:
            once = iter(source) is iter(source)
        except TypeError as error:
            raise TypeError(
                f"the {kind} loader must give batches when it is iterated, as a DataLoader or a "
                f"list does; got a {type(source).__name__}"
            ) from error
    if once:
        raise ValueError(
            f"the {kind} loader can be iterated once, as a generator can, and is needed anew each "
            "epoch: pass a DataLoader, a list, or an object whose __iter__ starts again"
        )


def seed_epoch(loader: Iterable[Any], seed: int, epoch: int) -> None:
    """Seed everything that an epoch draws from: the global generators and the loader's own."""
    from accelerate.utils import set_seed

    number = (seed * 1_000_003 + epoch) % 2**32
    set_seed(number)
    for generator in generators_of(loader):
        generator.manual_seed(number)
    for owner in _drawing(loader):
        set_epoch = getattr(owner, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)


def generators_of(loader: Any) -> list[torch.Generator]:
    """The loader's own generators, which its order is drawn from."""
    found = [getattr(owner, "generator", None) for owner in _drawing(loader)]
    return [one for one in found if isinstance(one, torch.Generator)]


def _drawing(loader: Any) -> tuple[Any, ...]:
    """What may draw the order of a loader's images: itself and its samplers."""
    batches = getattr(loader, "batch_sampler", None)
    return loader, getattr(loader, "sampler", None), getattr(batches, "sampler", None)


def length_of(loader: Any) -> int | None:
    """How many batches it gives, if it says so."""
    try:
        return len(loader)
    except (NotImplementedError, TypeError):  # a DataLoader of an IterableDataset has none
        return None


def count_batches(loader: Iterable[Any], progress: bool) -> int:
    """How many batches a loader gives that does not say so: it is walked through once."""
    return sum(1 for _ in tqdm(loader, desc="counting the batches", disable=not progress))


def first_batch(loader: Iterable[Any], kind: str) -> Any:
    """A look at the loader; ValueError if it is empty."""
    for batch in loader:
        return batch
    raise ValueError(f"the {kind} loader is empty: it gave no batch")


def fingerprint(loader: Iterable[Any], first: Any, seed: int) -> dict[str, Any]:
    """What tells a loader from another, as JSON values; what is unknown is left out.

    It is the size and the digest of the images of the first batch (of data, order, batch size and
    transform, that is), the number of batches, and that of the data set's images; not the images of
    later batches.

    Args:
        first: the first batch, drawn after `seed_epoch(loader, seed, 0)`; it is drawn again. A
            loader that then gives another one is warned of: the seed does not determine it.
    """
    found: dict[str, Any] = {"batch": list(images_of(first, torch.device("cpu")).shape)}
    seed_epoch(loader, seed, 0)
    digests = {_digest(batch) for batch in (first, first_batch(loader, "training"))}
    if len(digests) == 1:
        found["first_batch"] = digests.pop()
    else:
        lasting = getattr(loader, "persistent_workers", False)
        remedy = (
            "pass persistent_workers=False"
            if lasting
            else (
                "draw from torch's, numpy's or random's own generators, which are seeded each epoch"
            )
        )
        warn(
            "the loader gives other batches when it is started again from the same seed: a resumed "
            f"training will not end exactly as an uninterrupted one. To mend it, {remedy}"
        )
    found["batches"] = length_of(loader)
    if isinstance(loader, DataLoader):
        found["images"] = length_of(loader.dataset)
    return {name: value for name, value in found.items() if value is not None}


def _digest(batch: Any) -> str:
    images = images_of(batch, torch.device("cpu")).contiguous()
    return hashlib.sha256(images.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
