"""Compare LearnableCAM with every peer, by every metric, on the same images.

\b
    python -m benchmarks compare synthetic --out results/synthetic
    python -m benchmarks compare photos --data VAL --train TRAIN --out results/photos

PROTOCOL is a file of benchmarks/protocols, by name, or a path. Leaves results.json, results.csv,
results.md, report.html and figures in --out. Run again after an interruption, it goes on with the
method under way; methods that are done are not run again.
"""

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch
from tqdm.auto import tqdm

from learnable_cam_plugin import AttentionMechanism
from learnable_cam_plugin.atomic import atomic_path
from learnable_cam_plugin.checkpoint import CheckpointError

from ..acceleration import accelerated
from ..maps import make_maps
from ..methods import Method, find_methods, opened
from ..passes import counted
from ..protocol import load_protocol
from ..report import schema
from ..report.figures import write_figures
from ..report.gallery import write_images, write_maps
from ..report.page import write_report
from ..report.summary import run_settings, summarize
from ..report.tables import main_tables, results_csv
from ..scoring import score_maps, subsets
from ..testbed import Testbed, prepare
from ..trainings import train_attentions

_PATH = click.Path(path_type=Path)
_SEEDED = "random weights: try out without a download"
_ACCELERATE = (
    "OpenVINO on the CPU: bfloat16 for the masked copies of RISE and its like, float32 for the "
    "metrics (extra `bench`)"
)


@click.command(help=__doc__)
@click.argument("protocol")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--data", type=_PATH, help="folder of images to explain")
@click.option("--train", type=_PATH, help="folder to train on")
@click.option("--list", "names", type=_PATH, help="file names, one a line")
@click.option("--methods", help="comma-separated; all unless given")
@click.option("--limit", type=click.IntRange(1), help="at most so many images")
@click.option("--device", default="cpu", show_default=True)
@click.option("--seeded-weights", "seeded", is_flag=True, help=_SEEDED)
@click.option("--accelerate", is_flag=True, help=_ACCELERATE)
def main(**options: Any) -> None:
    try:
        run_comparison(**options)
    except (CheckpointError, FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def run_comparison(
    protocol: str,
    out: Path,
    *,
    data: Path | None = None,
    train: Path | None = None,
    names: Path | None = None,
    methods: str | None = None,
    limit: int | None = None,
    device: str = "cpu",
    seeded: bool = False,
    accelerate: bool = False,
) -> None:
    """What the command does; a script of yours may register methods and metrics, and call it.

    The arguments are the command's options; `out` gets a folder a network if the protocol has
    several. A ValueError or FileNotFoundError says which names what there is not, or that `out`
    holds results made with other settings; without OpenVINO, `accelerate` is a ModuleNotFoundError.
    """
    chosen, wanted = load_protocol(protocol), find_methods(methods)
    for network in chosen.networks:
        folder = out if len(chosen.networks) == 1 else out / network
        bed = prepare(chosen, network, folder, data, names, limit, device, seeded)
        if accelerate and bed.device.type != "cpu":
            raise ValueError("--accelerate is for the CPU: leave it out, or pass --device cpu")
        trained_on = train and _name_of(train)
        other = {"trained on": trained_on, "accelerated": accelerate, "device": bed.device.type}
        schema.claim(folder, run_settings(bed, other))
        notes = _notes(bed)
        if accelerate:
            bed, note = _accelerated(bed)
            notes.append(note)
        attentions = train_attentions(bed, wanted, train, folder / "attentions")
        write_images(folder, bed)
        for method in tqdm(wanted, desc="methods"):
            if schema.method_file(folder, method.slug).exists():
                continue
            try:
                measure(bed, method, attentions.get(method.name), folder)
            except Exception as error:  # of anybody's method; out of memory among them
                notes.append(f"{method.name} is left out: {type(error).__name__}: {error}")
                tqdm.write(notes[-1])
        shown = {"name": "drawn shapes" if data is None else _name_of(data)}
        results = summarize(folder, bed, network, shown, notes)
        for file, text in (("csv", results_csv(results)), ("md", main_tables(results))):
            with atomic_path(folder / f"results.{file}") as path:
                path.write_text(text)
        for written in [*write_figures(folder), write_report(folder)]:
            print(written)


def _name_of(folder: Path) -> str:
    """The last two parts of a folder's path."""
    return "/".join(folder.resolve().parts[-2:])


def _notes(bed: Testbed) -> list[str]:
    few, mosaics = bed.few(slow=True)
    return [
        f"Every method is scored on the {len(bed.common)} common images, drawn at random with "
        f"seed {bed.protocol.seed}. AD and IC with black masks, and location, are taken on all "
        f"{len(bed.pictures.images)} too, except of methods of over 1,000 passes or over half a "
        "second an image. Coherency, ADCC and grid pointing explain anew: on the common images' "
        f"side they are of {len(few)} images and {len(mosaics)} mosaics for every method.",
        "Intervals: 95 %, bootstrap over the images (over the mosaics, which share images); of "
        "shares (IC, pointing game) Wilson's.",
        "The library's methods are clipped at 0 and then scaled to [0, 1]; classic CAM, the "
        "learned methods, RISE, SIDU, Recipro-CAM and Opti-CAM are scaled by their minimum and "
        "maximum.",
    ]


def _accelerated(bed: Testbed) -> tuple[Testbed, str]:
    """The testbed with fast copies as scorer and judge, and a note of what they differ by."""
    layer, first = bed.network.layer, bed.pictures.images[:8]
    scorer, rough = accelerated(bed.model, layer, first, "bfloat16", 0.2)
    judge, exact = accelerated(bed.model, layer, first, "float32", 1e-4)
    return dataclasses.replace(bed, scorer=scorer, judge=judge), (
        "The masked copies of RISE, SIDU, SISE, Ada-SISE and Score-CAM were scored in bfloat16 "
        f"(OpenVINO; probabilities of {len(first)} images within {rough:.1g}), the metrics in "
        f"float32 (within {exact:.1g})."
    )


def measure(
    bed: Testbed, method: Method, attention: AttentionMechanism | None, folder: Path
) -> None:
    """One method from its maps to its file, its passes counted on the first image."""
    with opened(method, bed, attention) as explain:
        maps = make_maps(explain, method, bed, folder / "maps" / method.slug)
        # last: a method that draws at random goes on from call to call
        with counted(bed.model, bed.scorer) as passes:
            explain(bed.pictures.images[:1], bed.pictures.classes[:1])
    with torch.no_grad():
        parts = subsets(bed, maps)
        scores = score_maps(parts, method.name).items()
        gallery = write_maps(folder, bed, method, parts["all"])
    results = schema.MethodResults(
        method=method.name,
        command=schema.command_line(),
        forward=passes.forward,
        backward=passes.backward,
        scores={key: schema.ImageScores(index=s.index, values=s.values) for key, s in scores},
        gallery=gallery,
    )
    schema.write_json(schema.method_file(folder, method.slug), results)
