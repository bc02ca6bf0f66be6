"""What a run leaves: a file a method, the gallery, and the summary that the report shows."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor

from learnable_cam_plugin.checkpoint import atomic_path
from learnable_cam_plugin.metrics import bootstrap, masked_confidence

from .explanations import Explanations
from .methods import BY_NAME, Method
from .scoring import METRICS, Scores
from .workbench import Workbench

GALLERY = 6
PACKAGES = ("learnable-cam-plugin", "torch", "torchvision", "grad-cam", "captum", "numpy")


def slug(name: str) -> str:
    """A name as a file name.

    >>> slug("Grad-CAM++")
    'grad-campp'
    """
    return name.lower().replace("+", "p").replace(" ", "-")


def write_json(path: Path, content: Any) -> None:
    """Write JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def command_line() -> str:
    """The command that is running, to be written beside what it measured."""
    return shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])


def leave(folder: Path, name: str, parts: Sequence[str], **record: Any) -> None:
    """Print the command and the parts of a report, and leave them as name.md.

    Args:
        folder: where.
        name: of the files.
        parts: paragraphs and tables, Markdown.
        record: the same as data, left as name.json if there is any.
    """
    text = "\n\n".join([f"`{command_line()}`", *parts]) + "\n"
    with atomic_path(folder / f"{name}.md") as path:
        path.write_text(text)
    if record:
        write_json(folder / f"{name}.json", {"command": command_line(), **record})
    print(text)


def settings(bench: Workbench, run: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for results of two runs to stand in one table."""
    digest = hashlib.sha256(bench.images.numpy().tobytes())
    digest.update(bench.classes.numpy().tobytes())
    return {
        "protocol": dataclasses.asdict(bench.protocol),
        "network": dataclasses.asdict(bench.network),
        "images": len(bench.images),
        "digest": digest.hexdigest(),
        **run,
    }


def claim(folder: Path, bench: Workbench, run: Mapping[str, Any]) -> None:
    """Make the folder this run's, or check that what it holds was made with the same settings.

    Args:
        folder: of the results.
        bench: what is run on.
        run: the other settings that the results depend on.

    Raises:
        ValueError: it holds results of other images, classes or settings.
    """
    path, now = folder / "settings.json", json.loads(json.dumps(settings(bench, run)))
    if not path.exists():
        write_json(path, now)
        return
    then = json.loads(path.read_text())
    differing = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
    if differing:
        sides = "; ".join(f"{key}: {then.get(key)} then, {now.get(key)} now" for key in differing)
        raise ValueError(
            f"{folder} holds results made with other settings ({sides}): choose another --out"
        )


def save_method(
    folder: Path,
    method: Method,
    scores: Mapping[str, Scores],
    passes: tuple[float, float],
    gallery: Sequence[Mapping[str, Any]],
    command: str,
) -> None:
    """Write what a method scored; from then on it is done."""
    content = {
        "method": method.name,
        "command": command,
        "forward": passes[0],
        "backward": passes[1],
        "scores": {key: dataclasses.asdict(value) for key, value in scores.items()},
        "gallery": list(gallery),
    }
    write_json(method_file(folder, method.name), content)


def method_file(folder: Path, name: str) -> Path:
    """Where a method's scores are."""
    return folder / "methods" / f"{slug(name)}.json"


def draw_gallery(folder: Path, bench: Workbench) -> None:
    """The pictures of the first common images."""
    chosen = bench.common[:GALLERY]
    pixels = bench.normalization.denormalize(bench.images[chosen]).clamp(0, 1)
    for i, picture in enumerate(pixels):
        _save_picture(folder / "gallery" / f"image-{i}.jpg", picture)


def draw_maps(
    folder: Path, bench: Workbench, method: Method, found: Explanations
) -> list[dict[str, Any]]:
    """The pictures of a method's maps of the gallery's images, and the masked probabilities."""
    chosen = bench.common[:GALLERY]
    maps = found.of(chosen)
    pixels = bench.normalization.denormalize(bench.images[chosen]).clamp(0, 1)
    device = next(bench.model.parameters()).device
    masked = masked_confidence(
        bench.judge,
        bench.images[chosen].to(device),
        maps.to(device),
        bench.classes[chosen].to(device),
        bench.normalization,
    )
    entries = []
    for i, (picture, one) in enumerate(zip(pixels, maps, strict=True)):
        rgb = picture.permute(1, 2, 0).numpy()
        shown = torch.from_numpy(show_cam_on_image(rgb, one.numpy(), use_rgb=True))
        name = f"gallery/{slug(method.name)}-{i}.jpg"
        _save_picture(folder / name, shown.permute(2, 0, 1) / 255)
        entries.append(
            {"file": name, "masked": {f"{k:.0%}": round(float(q[i]), 4) for k, q in masked.items()}}
        )
    return entries


def _save_picture(path: Path, pixels: Tensor) -> None:
    """Pixels (3, H, W) in [0, 1] as a JPEG."""
    array = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, quality=85)


def summarize(folder: Path, bench: Workbench, run: Mapping[str, Any]) -> dict[str, Any]:
    """Gather every method's file into results.json: means with 95 % bootstrap intervals.

    Args:
        folder: of the run.
        bench: what was run on.
        run: "network", "data", "notes".

    Returns:
        what was written.
    """
    speed = _speed(folder, run["network"])
    rows, maps, commands = [], {}, []
    for name, method in BY_NAME.items():
        path = method_file(folder, name)
        if not path.exists():
            continue
        content = json.loads(path.read_text())
        rows.append(
            {
                "method": name,
                "group": method.group,
                "reference": method.reference,
                "note": method.note,
                "forward": content["forward"],
                "backward": content["backward"],
                "ms": speed.get(name),
                **_intervals(content["scores"], bench, method.slow),
            }
        )
        maps[name] = content["gallery"]
        commands.append(content["command"])
    present = {key for row in rows for key in (*row["all"], *row["common"])}
    titles = [
        {"title": f"{bench.titles[i]}, p = {float(bench.confidence[i]):.2f}", "file": file}
        for n, i in enumerate(bench.common[:GALLERY].tolist())
        if (folder / (file := f"gallery/image-{n}.jpg")).exists()
    ]
    results = {
        "protocol": bench.protocol.name,
        "created": datetime.datetime.now().isoformat(timespec="seconds"),
        "seed": bench.protocol.seed,
        "command": "; ".join(dict.fromkeys(commands)),
        "versions": {package: version(package) for package in PACKAGES},
        "hardware": hardware(next(bench.model.parameters()).device),
        **run,
        "metrics": [
            {**dataclasses.asdict(metric), "unit": "%"}
            for metric in METRICS
            if metric.key in present
        ],
        "methods": rows,
        "gallery": {"images": titles, "maps": maps},
    }
    write_json(folder / "results.json", results)
    return results


def _intervals(scores: Mapping[str, Any], bench: Workbench, slow: bool) -> dict[str, Any]:
    """Metric -> interval over everything scored ("all"), and over what every method was scored on
    ("common"); a method that was scored on the common images only has no "all"."""
    few, mosaics = (set(part.tolist()) for part in bench.few(slow=True))
    common = set(bench.common.tolist())
    shared = {"coherency": few, "ADCC": few, "grid pointing": mosaics}
    result: dict[str, Any] = {"all": {}, "common": {}}
    for key, found in scores.items():
        wanted = shared.get(key, common)
        pairs = list(zip(found["index"], found["values"], strict=True))
        subsets = {"common": [value for i, value in pairs if i in wanted]}
        if not slow:
            subsets["all"] = [value for _, value in pairs]
        for subset, values in subsets.items():
            interval = bootstrap(torch.tensor(values, dtype=torch.float64))
            result[subset][key] = {
                **{name: round(value, 3) for name, value in interval._asdict().items()},
                "n": len(values),
            }
    return result


def _speed(folder: Path, network: str) -> dict[str, float]:
    """Method -> ms an explanation at batch 1, where `benchmarks/speed.py --out` left them."""
    path = folder / "speed.json"
    if not path.exists():
        return {}
    rows = json.loads(path.read_text())["rows"]
    return {
        row["method"]: round(row["ms"], 2)
        for row in rows
        if row["batch"] == 1 and row["network"] == network
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, threads and device, in words."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [s for s in information.read_text().splitlines() if s.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"processor": processor, "threads": torch.get_num_threads(), "device": where}
