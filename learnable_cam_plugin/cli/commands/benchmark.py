"""`learnable-cam benchmark`: its options."""

from pathlib import Path

import click

from ..common import (
    DEFAULT,
    EXIT_CODES,
    FOLDER,
    Chosen,
    attention_option,
    json_option,
    model_options,
    one_line,
    refuse_unread,
    say_json,
)


@click.command(
    "benchmark",
    short_help="Score a classifier's maps on photographs, beside Grad-CAM's.",
    epilog="Example: learnable-cam benchmark photos/ --model torchvision:resnet50 --limit 200"
    f"\n\n{EXIT_CODES}",
)
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@model_options(DEFAULT)
@attention_option
@click.option(
    "--limit", type=click.IntRange(1), default=64, help="Photographs at most, evenly spread."
)
@click.option("--batch-size", type=click.IntRange(1, 1024), default=8, help="Images at once.")
@click.option("--out", type=FOLDER, help="Folder for table.md and table.json; none without.")
@json_option
def benchmark_command(
    photos: tuple[Path, ...],
    chosen: Chosen,
    attention: str | None,
    limit: int,
    batch_size: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Score the maps of a classifier's own predictions on PHOTOS, beside Grad-CAM's.

    AD: average drop, lower is better. IC: increase in confidence, higher is better; under the whole
    map and its highest 50 and 15 %. ms: an image, on this machine.
    """
    unread: list[str] = []
    with one_line("photos"):
        from ..benchmark import benchmark
        from ..classifiers import open_classifier

        loaded = open_classifier(chosen)
        rows, table = benchmark(
            loaded, chosen.device, attention, photos, limit, batch_size, out, unread
        )
        if as_json:
            say_json({"rows": rows, "left out": unread}, indent=1)
        elif rows:
            click.echo(table)
        refuse_unread(unread)
