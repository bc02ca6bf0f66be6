"""Compare LearnableCAM with every peer, by every metric, on the same images; one command.

    python benchmarks/run.py synthetic --out results/synthetic
    python benchmarks/run.py photos --data VAL_FOLDER --train TRAIN_FOLDER --out results/photos

PROTOCOL is a file of benchmarks/protocols, by name, or a path. Leaves results.json, results.csv,
results.md, report.html and figures in --out. Run again after an interruption, it goes on with the
method under way; methods that are done are not run again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: import the folder's modules as a package's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import click
import torch
from tqdm.auto import tqdm

from benchmarks.acceleration import accelerated
from benchmarks.attentions import train
from benchmarks.explanations import explain
from benchmarks.figures import write_figures
from benchmarks.methods import Method, find_methods, opened
from benchmarks.passes import counted
from benchmarks.protocol import load_protocol
from benchmarks.report import markdown_table, results_csv, write_report
from benchmarks.results import (
    claim,
    command_line,
    draw_gallery,
    draw_maps,
    method_file,
    save_method,
    slug,
    summarize,
)
from benchmarks.scoring import score
from benchmarks.workbench import Workbench, prepare
from learnable_cam_plugin.checkpoint import CheckpointError, atomic_path

MASKED = ("AD 100%", "IC 100%", "AD 50%", "IC 50%", "AD 15%", "IC 15%")
CURVES = ("insertion", "deletion", "ROAD", "complexity", "energy inside", "pointing game")
AGAIN = ("coherency", "ADCC", "grid pointing")


@click.command(help=__doc__)
@click.argument("protocol")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--data", type=click.Path(path_type=Path), help="folder of images to explain")
@click.option("--train", "train_folder", type=click.Path(path_type=Path), help="folder to train on")
@click.option("--list", "names", type=click.Path(path_type=Path), help="file names, one a line")
@click.option("--methods", help="comma-separated; all unless given")
@click.option("--limit", type=click.IntRange(1), help="at most so many images")
@click.option("--device", default="cpu", show_default=True)
@click.option("--seeded-weights", is_flag=True, help="random weights: try out without a download")
@click.option(
    "--accelerate",
    is_flag=True,
    help="OpenVINO on the CPU: bfloat16 for the masked copies of RISE and its like, float32 for "
    "the metrics (extra `bench`)",
)
def main(
    protocol: str,
    out: Path,
    data: Path | None,
    train_folder: Path | None,
    names: Path | None,
    methods: str | None,
    limit: int | None,
    device: str,
    seeded_weights: bool,
    accelerate: bool,
) -> None:
    try:
        chosen, wanted = load_protocol(protocol), find_methods(methods)
        for network in chosen.networks:
            folder = out if len(chosen.networks) == 1 else out / network
            bench = prepare(chosen, network, folder, data, names, limit, device, seeded_weights)
            compare(bench, network, wanted, folder, data, train_folder, accelerate)
    except (CheckpointError, FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def compare(
    bench: Workbench,
    network: str,
    wanted: list[Method],
    folder: Path,
    data: Path | None,
    train_folder: Path | None,
    accelerate: bool,
) -> None:
    """Explain, score and report, method by method."""
    if accelerate and next(bench.model.parameters()).device.type != "cpu":
        raise ValueError("--accelerate is for the CPU: leave it out, or pass --device cpu")
    other = {
        "trained on": train_folder and name_of(train_folder),
        "accelerated": accelerate,
        "device": next(bench.model.parameters()).device.type,
    }
    claim(folder, bench, other)
    few = bench.protocol.few
    notes = [
        f"Every method is scored on the {len(bench.common)} common images, drawn at random with "
        f"seed {bench.protocol.seed}. AD and IC with black masks, and location, are taken on all "
        f"{len(bench.images)} too, except of methods of over 1,000 passes or over half a second "
        f"an image. Coherency, ADCC and grid pointing explain anew: on the common images' side "
        f"they are of {few} images or mosaics for every method.",
        "Intervals: 95 %, bootstrap over the images (over the mosaics, which share images).",
        "The library's methods are clipped at 0 and then scaled to [0, 1]; classic CAM, the "
        "learned methods, RISE and SIDU are scaled by their minimum and maximum.",
    ]
    if accelerate:
        layer, first = bench.network.layer, bench.images[:8]
        bench.scorer, rough = accelerated(bench.model, layer, first, "bfloat16", 0.2)
        bench.judge, exact = accelerated(bench.model, layer, first, "float32", 1e-4)
        notes.append(
            "The masked copies of RISE, SIDU, SISE, Ada-SISE and Score-CAM were scored in bfloat16 "
            f"(OpenVINO; probabilities of {len(first)} images within {rough:.1g}), the metrics in "
            f"float32 (within {exact:.1g})."
        )
    bench.attentions = train(bench, wanted, train_folder, folder / "attentions")
    draw_gallery(folder, bench)
    for method in tqdm(wanted, desc="methods"):
        if method_file(folder, method.name).exists():
            continue
        try:
            measure(bench, method, folder)
        except (RuntimeError, ValueError) as error:  # out of memory among them
            notes.append(f"{method.name} is left out: {error}")
            tqdm.write(notes[-1])
    run = {
        "network": network,
        "data": {
            "name": "drawn shapes" if data is None else name_of(data),
            "images": len(bench.images),
            "common": len(bench.common),
            "mosaics": len(bench.mosaics),
        },
        "notes": notes,
    }
    results = summarize(folder, bench, run)
    for name, text in {
        "results.csv": results_csv(results),
        "results.md": markdown(results),
    }.items():
        with atomic_path(folder / name) as path:
            path.write_text(text)
    for figure in [*write_figures(folder), write_report(folder)]:
        print(figure)


def name_of(folder: Path) -> str:
    """The last two parts of a folder's path."""
    return "/".join(folder.resolve().parts[-2:])


def markdown(results: Mapping[str, Any]) -> str:
    """The main columns as Markdown tables: on the common images, and on all."""
    counts = {"common": results["data"]["common"], "all": results["data"]["images"]}
    present = [metric["key"] for metric in results["metrics"]]
    parts = [f"{results['data']['name']}, {results['network']}: `{results['command']}`"]
    parts += results["notes"]
    for columns, subset in ((MASKED, "common"), (MASKED, "all"), (CURVES, "common")):
        parts.append(f"{counts[subset]} images, {subset}")
        parts.append(markdown_table(results, subset, [key for key in columns if key in present]))
    again = [key for key in AGAIN if key in present]
    for subset in ("common", "all"):
        sizes = {
            row[subset][key]["n"] for row in results["methods"] for key in again if row[subset]
        }
        parts.append(f"explained anew: {' or '.join(map(str, sorted(sizes)))} images or mosaics")
        parts.append(markdown_table(results, subset, again))
    return "\n\n".join(parts) + "\n"


def measure(bench: Workbench, method: Method, folder: Path) -> None:
    """One method from its maps to its file, its passes counted on the first image."""
    with opened(method, bench) as cam, counted(bench.model, bench.scorer) as passes:
        cam(bench.images[:1], bench.classes[:1])
    found = explain(method, bench, folder / "maps" / slug(method.name))
    with torch.no_grad():
        scores = score(bench, found, method.name)
        gallery = draw_maps(folder, bench, method, found)
    command = command_line()
    save_method(folder, method, scores, (passes.forward, passes.backward), gallery, command)


if __name__ == "__main__":
    main()
