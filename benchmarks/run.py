"""Compare LearnableCAM with every peer, by every metric, on the same images; one command.

    python benchmarks/run.py synthetic --out results/synthetic
    python benchmarks/run.py photos --data VAL_FOLDER --train TRAIN_FOLDER --out results/photos

PROTOCOL is a file of benchmarks/protocols, by name, or a path. Leaves results.json, results.csv,
results.md, report.html and figures in --out. Run again after an interruption, it goes on with the
method under way; methods that are done are not run again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import torch
from tqdm.auto import tqdm

from benchmarks.accelerate import accelerated
from benchmarks.attentions import train
from benchmarks.explanations import explain
from benchmarks.figures import write_figures
from benchmarks.methods import LEARNED, Method, find_methods, opened
from benchmarks.passes import counted
from benchmarks.protocol import load_protocol
from benchmarks.report import SUBSETS, markdown_table, results_csv, write_report
from benchmarks.results import (
    claim,
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
OTHER = (
    "insertion",
    "deletion",
    "ROAD",
    "coherency",
    "complexity",
    "ADCC",
    "grid pointing",
    "energy inside",
    "pointing game",
)


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
    claim(folder, bench)
    notes = [
        f"Every metric is taken on the {len(bench.common)} common images, drawn at random with "
        f"seed {bench.protocol.seed}; AD and IC with black masks, and location, on all "
        f"{len(bench.images)} too, except for methods of over 1,000 passes or over half a second "
        f"an image. Coherency and grid pointing of those are on {bench.protocol.few} images."
    ]
    bench.attentions = train(bench, wanted, train_folder, folder / "attentions")
    if accelerate:
        layer, first = bench.network.layer, bench.images[:8]
        bench.scorer = accelerated(bench.model, layer, first, "bfloat16", 0.05)
        bench.judge = accelerated(bench.model, layer, first, "float32", 1e-4)
        notes.append(
            "The masked copies of RISE, SIDU, SISE, Ada-SISE and Score-CAM were scored in bfloat16 "
            "(OpenVINO); every metric in float32."
        )
    draw_gallery(folder, bench)
    for method in tqdm(wanted, desc="methods"):
        if method_file(folder, method.name).exists():
            continue
        if method.name in LEARNED and method.name not in bench.attentions:
            tqdm.write(f"{method.name} is left out: there is no --train folder to train it on")
            continue
        try:
            measure(bench, method, folder)
        except ValueError as error:
            tqdm.write(f"{method.name} is left out: {error}")
    run = {
        "network": network,
        "command": " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "data": {
            "name": "drawn shapes" if data is None else "/".join(data.resolve().parts[-2:]),
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


def markdown(results: Mapping[str, Any]) -> str:
    """The main columns as Markdown tables: on the common images, and on all."""
    counts = {"common": results["data"]["common"], "all": results["data"]["images"]}
    present = [metric["key"] for metric in results["metrics"]]
    parts = [f"{results['data']['name']}, {results['network']}: `{results['command']}`"]
    for title, columns, subsets in (
        ("the paper's columns", MASKED, SUBSETS),
        ("other metrics", OTHER, SUBSETS[:1]),
    ):
        for subset in subsets:
            keys = [key for key in columns if key in present]
            rows = [row for row in results["methods"] if row[subset]]
            if keys and rows:
                parts.append(f"{title}, {counts[subset]} images ({subset})")
                parts.append(markdown_table(results, subset, keys))
    return "\n\n".join(parts) + "\n"


def measure(bench: Workbench, method: Method, folder: Path) -> None:
    """One method from its maps to its file, its passes counted on the first image."""
    with opened(method, bench) as cam, counted(bench.model, bench.scorer) as passes:
        cam(bench.images[:1], bench.classes[:1])
    found = explain(method, bench, folder / "maps" / slug(method.name))
    with torch.no_grad():
        scores = score(bench, found, method.name)
        gallery = draw_maps(folder, bench, method, found)
    save_method(folder, method, scores, (passes.forward, passes.backward), gallery)


if __name__ == "__main__":
    main()
