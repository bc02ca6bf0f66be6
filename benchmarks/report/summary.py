"""A run's settings, and its summary: every method's scores as means with intervals."""

import dataclasses
import datetime
import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from learnable_cam_plugin.attention.shipped import UNIVERSAL
from learnable_cam_plugin.metrics import METRICS, Interval, bootstrap, wilson
from learnable_cam_plugin.metrics.registry import CURVE_STEPS, ROAD_PERCENTILES

from ..methods import METHODS
from ..testbed import Testbed
from .gallery import image_entries
from .schema import ImageScores, MeanScore, MethodRow, Results, read_left, read_methods, write_json

PACKAGES = ("learnable-cam-plugin", "torch", "torchvision", "grad-cam", "captum", "numpy")


def run_settings(bed: Testbed, run: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for results of two runs to stand in one table; `run` is part of it."""
    digest = hashlib.sha256(bed.pictures.images.numpy().tobytes())
    digest.update(bed.pictures.classes.numpy().tobytes())
    return {
        "protocol": dataclasses.asdict(bed.protocol),
        "network": dataclasses.asdict(bed.network),
        "images": len(bed.pictures.images),
        "digest": digest.hexdigest(),
        "metrics": {"steps of curves": CURVE_STEPS, "percentiles of ROAD": ROAD_PERCENTILES},
        "shipped attention": hashlib.sha256(UNIVERSAL.read_bytes()).hexdigest(),
        "versions": {package: version(package) for package in PACKAGES},
        **run,
    }


def summarize(
    folder: Path, bed: Testbed, network: str, data: Mapping[str, Any], notes: list[str]
) -> Results:
    """Gather every method's file into results.json: means with 95 % intervals.

    `network`, `data` and `notes` are as in `Results`, `data` without the counts.
    """
    speed, found = _speed(folder, network), read_methods(folder)
    done = {name: method for name, method in METHODS.items() if name in found}
    rows = [
        MethodRow(
            method=name,
            group=method.group,
            reference=method.reference,
            note=method.note,
            forward=found[name]["forward"],
            backward=found[name]["backward"],
            ms=speed.get(name),
            common=_means(found[name]["scores"], _common(bed)),
            all={} if method.slow else _means(found[name]["scores"], None),
        )
        for name, method in done.items()
    ]
    results = Results(
        protocol=bed.protocol.name,
        created=datetime.datetime.now().isoformat(timespec="seconds"),
        seed=bed.protocol.seed,
        command="; ".join(dict.fromkeys(found[name]["command"] for name in done)),
        versions={package: version(package) for package in PACKAGES},
        hardware=hardware(bed.device),
        network=network,
        data={
            **data,
            "images": len(bed.pictures.images),
            "common": len(bed.common),
            "mosaics": len(bed.mosaics.images),
        },
        notes=notes,
        metrics=[
            {"key": m.key, "title": m.title, "better": m.better, "group": m.group, "unit": "%"}
            for m in METRICS.values()
            if any(m.key in row["common"] for row in rows)
        ],
        methods=rows,
        gallery={
            "images": image_entries(folder, bed),
            "maps": {name: found[name]["gallery"] for name in done},
        },
    )
    write_json(folder / "results.json", results)
    return results


def _common(bed: Testbed) -> dict[str, set[int]]:
    """`Metric.images` -> the images, or mosaics, on which every method has such a metric."""
    few, mosaics = (set(part.tolist()) for part in bed.few(slow=True))
    common = set(bed.common.tolist())
    return {"all": common, "common": common, "again": few, "mosaics": mosaics}


def _means(
    scores: Mapping[str, ImageScores], wanted: Mapping[str, set[int]] | None
) -> dict[str, MeanScore]:
    """Registered metric -> its mean over the images wanted, or over everything scored."""
    means = {}
    for key, metric in METRICS.items():
        if key in scores:
            pairs = zip(scores[key]["index"], scores[key]["values"], strict=True)
            values = [v for i, v in pairs if wanted is None or i in wanted[metric.images]]
            mean, low, high = (round(value, 3) for value in _interval(key, values))
            means[key] = MeanScore(mean=mean, low=low, high=high, n=len(values))
    return means


def _interval(key: str, values: list[float]) -> Interval:
    """Of a share of the images, as IC, Wilson's: drawn again, none of them would always be none."""
    if key.startswith("IC ") or key == "pointing game":
        return Interval(*(100 * end for end in wilson(values.count(100.0), len(values))))
    return bootstrap(torch.tensor(values, dtype=torch.float64))


def _speed(folder: Path, network: str) -> dict[str, float]:
    """Method -> ms an explanation at batch 1, where `speed --out` left them."""
    return {
        row["method"]: round(row["ms"], 2)
        for row in read_left(folder, "speed").get("rows", [])
        if row["batch"] == 1 and row["network"] == network
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, threads and device, in words."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"processor": processor, "threads": torch.get_num_threads(), "device": where}
