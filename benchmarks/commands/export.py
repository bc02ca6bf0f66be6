"""What an exported graph costs that explains, over the graph of the logits alone; its precision.

\b
    python -m benchmarks export --network resnet50 --network vit_b_16 --out results/export
    python -m benchmarks export --network efficientnet-lite0 --photos PHOTOS --out DIR

Seeded weights, batches of 1 and 16. Every round calls each graph (onnxruntime) and each method
(torch) once, in a new random order; a ratio is the median of the rounds' ratios to the logits alone
of the same runtime. With --photos, EfficientNet-Lite0 with its own weights in half precision and in
8-bit integers (calibrated on every fourth photograph, measured on the others), in onnxruntime and
in OpenVINO: speed, size, agreement of the top class and rank correlation of the maps with
onnxruntime's in fp32, average drop and increase in confidence. Leaves export.json and export.md.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from learnable_cam_plugin import ExplainedClassifier, export_onnx
from learnable_cam_plugin.comparison import markdown_table
from learnable_cam_plugin.export import quantize_onnx
from learnable_cam_plugin.metrics import (
    average_drop,
    confidence,
    increase_in_confidence,
    masked_confidence,
)
from learnable_cam_plugin.wording import plain

from ..acceleration import openvino_core
from ..exported import (
    EAGER,
    LOGITS,
    calibration_split,
    classifier,
    eager,
    graphs,
    in_turns,
    rank_correlation,
    ratio,
    session,
)
from ..report.schema import leave
from ..report.summary import hardware
from ..sources import load_network, load_photos

Run = Callable[[np.ndarray], Sequence[np.ndarray]]


@click.command(help=__doc__)
@click.option("--network", "networks", multiple=True, default=["efficientnet-lite0", "resnet50"])
@click.option("--batch", "batches", multiple=True, type=int, default=[1, 16], show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--limit", default=200, show_default=True, help="photographs")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(
    networks: Sequence[str],
    batches: Sequence[int],
    rounds: int,
    threads: int,
    photos: Path | None,
    limit: int,
    out: Path,
) -> None:
    torch.set_num_threads(threads)
    rows = [row for name in networks for row in costs(name, batches, rounds, threads)]
    where = {**hardware(torch.device("cpu")), "threads": threads}
    import onnxruntime

    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    about = ", ".join(f"{key} {value}" for key, value in {**where, **versions}.items())
    parts = [markdown_table(rows), f"{about}, {rounds} rounds"]
    record: dict[str, Any] = {"rows": rows}
    if photos is not None:
        record["precision"] = precisions(photos, limit, rounds, threads)
        parts.append(markdown_table(record["precision"]))
    leave(out, "export", parts, **record, rounds=rounds, hardware=where, versions=versions)


def costs(network: str, batches: Sequence[int], rounds: int, threads: int) -> list[dict[str, str]]:
    """A row a batch and a graph, or method."""
    model, _, side, layer = classifier(network)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(max(4, *batches), 3, side, side, generator=generator)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = graphs(model, layer, images[:4], Path(folder))
        sessions = {name: session(path, threads) for name, path in files.items()}
        methods = eager(model, layer, images[:4])
        for batch in tqdm(batches, desc=network):
            given = images[:batch]
            calls: dict[str, Callable[[], Any]] = {
                name: partial(one.run, None, {"images": given.numpy()})
                for name, one in sessions.items()
            }
            calls |= {name: partial(one, given) for name, one in methods.items()}
            seconds = in_turns(calls, rounds)
            for name, found in seconds.items():
                base = seconds[LOGITS if name.startswith("onnx") else EAGER]
                rows.append(
                    {
                        "network": network,
                        "batch": str(batch),
                        "what": name,
                        "ms an image": f"{1e3 * float(np.median(found)) / batch:.2f}",
                        "x logits alone": f"{ratio(found, base):.3f}",
                    }
                )
    return rows


def precisions(photos: Path, limit: int, rounds: int, threads: int) -> list[dict[str, str]]:
    """A row a runtime and precision of EfficientNet-Lite0 with its own weights."""
    model, normalization = load_network("efficientnet-lite0")
    images, _ = load_photos(photos, normalization, None, limit)
    calibration, images = calibration_split(images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = folder / "fp32.onnx"
        explained = ExplainedClassifier(model, calibration[:8])
        export_onnx(explained, whole, calibration[:8], normalization=normalization)
        runs: dict[str, tuple[Path, Run] | str] = {}
        runs["onnxruntime fp32"] = whole, onnxruntime_run(whole, threads)
        half = folder / "fp16.onnx"
        export_onnx(explained.half(), half, calibration[:8].half(), normalization=normalization)
        runs["onnxruntime fp16"] = half, onnxruntime_run(half, threads)
        for title, mechanism in (("int8", False), ("int8, mechanism too", True)):
            small = folder / f"int8-{mechanism}.onnx"
            quantize_onnx(whole, small, calibration.split(8), mechanism)
            runs[f"onnxruntime {title}"] = small, onnxruntime_run(small, threads)
            if not mechanism:
                runs["OpenVINO int8"] = opened(small, "f32", threads)
        for title in ("f32", "bf16", "f16"):
            runs[f"OpenVINO {title}"] = opened(whole, title, threads)
        one = images[:1].numpy()
        ready = {title: run for title, run in runs.items() if not isinstance(run, str)}
        seconds = in_turns({title: partial(run[1], one) for title, run in ready.items()}, rounds)
        outputs = {
            title: [np.concatenate(parts) for parts in zip(*_batched(run[1], images), strict=True)]
            for title, run in ready.items()
        }
        logits, maps = outputs["onnxruntime fp32"]
        classes = torch.from_numpy(logits.argmax(1))
        before = torch.cat([confidence(model, *both) for both in _split(images, classes)])
        rows = []
        for title, run in runs.items():
            if isinstance(run, str):
                rows.append({"runtime and precision": title, "ms": run})
                continue
            scores, found = outputs[title]
            same = np.mean(scores.argmax(1) == logits.argmax(1))
            heat = torch.from_numpy(found.astype(np.float32))
            masked = torch.cat(
                [
                    masked_confidence(model, x, m, c, normalization, [1.0])[1.0]
                    for x, m, c in _split(images, heat, classes)
                ]
            )
            rows.append(
                {
                    "runtime and precision": title,
                    "ms": f"{1e3 * float(np.median(seconds[title])):.2f}",
                    "MB": f"{run[0].stat().st_size / 1e6:.1f}",
                    "same top class (%)": f"{100 * same:.1f}",
                    "rank correlation": f"{rank_correlation(maps, found):.4f}",
                    "AD": f"{average_drop(before, masked):.1f}",
                    "IC": f"{increase_in_confidence(before, masked):.1f}",
                }
            )
    return rows


def onnxruntime_run(path: Path, threads: int) -> Run:
    """Images -> logits and maps, of a file."""
    one = session(path, threads)
    half = "float16" in one.get_inputs()[0].type

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        return one.run(None, {"images": images.astype(np.float16) if half else images})

    return run


def opened(path: Path, precision: str, threads: int) -> "tuple[Path, Run] | str":
    """The same in OpenVINO; or why it is not."""
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    core = openvino_core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "this processor has no bfloat16"
    try:
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
    except RuntimeError as error:
        return plain(error)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        found = compiled(images)
        return found["logits"], found["saliency_map"]

    return path, run


def _batched(run: Run, images: Tensor) -> list[Sequence[np.ndarray]]:
    return [run(part.numpy()) for part in images.split(16)]


def _split(*tensors: Tensor) -> "zip[tuple[Tensor, ...]]":
    return zip(*(tensor.split(16) for tensor in tensors), strict=True)
