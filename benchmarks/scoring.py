"""Every metric of a method's maps, image by image."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin.metrics import METRICS, Explained

from .maps import Maps, places
from .testbed import Mosaics, Pictures, Testbed


@dataclass(frozen=True)
class Scores:
    """One metric of one method: a value for each image (or mosaic) of `index`."""

    index: list[int]
    values: list[float]


@dataclass(frozen=True)
class Subset:
    """The images (or mosaics) `index` (n,) of the testbed, as a metric sees them."""

    index: Tensor
    seen: Explained


def subsets(bed: Testbed, maps: Maps) -> dict[str, Subset]:
    """`Metric.images` -> what metrics of these are computed on; no "mosaics" where there are none.

    All but the mosaics are parts of "all": what the judge said of it need not be asked again.
    """
    pictures, tiles, index = bed.pictures, bed.mosaics, maps.index

    def seen(shown: Pictures | Mosaics, which: Tensor, found: Tensor) -> Explained:
        images, classes, seed = shown.images[which], shown.classes[which], bed.protocol.seed
        return Explained(bed.judge, bed.normalization, images, classes, found, seed)

    everything = seen(pictures, index, maps.maps)
    if pictures.regions is not None:
        everything = dataclasses.replace(everything, regions=pictures.regions[index])
    again = everything.of(places(index, maps.again_index))
    found = {
        "all": Subset(index, everything),
        "common": Subset(bed.common, everything.of(places(index, bed.common))),
        "again": Subset(maps.again_index, dataclasses.replace(again, again=maps.again)),
    }
    if len(maps.mosaics):
        chosen = maps.mosaic_index
        mosaics = seen(tiles, chosen, maps.mosaics)
        found["mosaics"] = Subset(chosen, dataclasses.replace(mosaics, cells=tiles.cells[chosen]))
    return found


def score_maps(parts: Mapping[str, Subset], title: str) -> dict[str, Scores]:
    """Key -> values of every registered metric that these images, of `subsets`, allow."""
    scores = {}
    for metric in tqdm(METRICS.values(), desc=f"{title}, scores", leave=False):
        part = parts.get(metric.images)
        if part is None or (metric.needs_regions and part.seen.regions is None):
            continue
        values = metric.compute(part.seen)
        if values.shape != part.index.shape:
            raise ValueError(
                f"the metric {metric.key!r} gives {tuple(values.shape)} for {len(part.index)} "
                "images; it must give one value an image, (N,)"
            )
        rounded = [round(value, 5) for value in values.double().tolist()]
        scores[metric.key] = Scores(part.index.tolist(), rounded)
    return scores
