"""`learnable-cam analyze`: its options."""

from pathlib import Path
from typing import Any

import click

from ..common import (
    DEFAULT,
    EXIT_CODES,
    FILE,
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
    "analyze",
    short_help="Find out why labelled photographs are classified wrongly.",
    epilog="Example: learnable-cam analyze photos/ --model torchvision:resnet50 --labels "
    f"labels.csv --out analysis\n\n{EXIT_CODES}",
)
@click.argument("folder", type=click.Path(path_type=Path))
@model_options(DEFAULT)
@attention_option
@click.option(
    "--labels",
    type=FILE,
    help="A CSV file with the columns file,label; without it, sub-folders are named as classes.",
)
@click.option(
    "--hierarchy",
    type=FILE,
    help="Which class is broader: narrower,broader a line, or WordNet's is_a list.",
)
@click.option(
    "--train", type=FILE, help="A folder of training images, to show the nearest ones of."
)
@click.option("--train-labels", type=FILE, help="As --labels, of --train.")
@click.option(
    "--thresholds", type=FILE, help="Of the rules: a JSON or TOML file, a name and number each."
)
@click.option(
    "--correct",
    type=click.IntRange(0),
    default=100,
    help="How many correct images to look at, too.",
)
@click.option("--figures", is_flag=True, help="Draw a figure of each case, for print.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of what is drawn.")
@click.option("--batch-size", type=click.IntRange(1, 1024), default=8, help="Images at once.")
@click.option("--out", type=FOLDER, default="analysis", help="Folder of the report.")
@json_option
def analyze_command(
    folder: Path,
    chosen: Chosen,
    attention: str | None,
    out: Path,
    batch_size: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Find out why a classifier is wrong about the labelled photographs in FOLDER.

    For each error it explains the predicted and the true class, one against the other, erases and
    keeps what each rests on, with random regions as the control, and names a cause where the
    evidence is there. The report is a page that opens from a disk, with a manifest, a table and
    masks beside it.

    A label is a class name, an index or a WordNet id. A photograph that cannot be read is named and
    left out, and the exit code is then 1. The report is written at the end, whole; one that is in
    the folder already is replaced.
    """
    with one_line("photos", "nothing was written, run it again"):
        from ..analyze import Wanted, analyze_photos
        from ..classifiers import open_classifier

        wanted = Wanted(batch=batch_size, **given)
        if wanted.train_labels is not None and wanted.train is None:
            raise click.UsageError("--train-labels goes with --train")
        analysis, unread, page = analyze_photos(
            open_classifier(chosen), chosen, attention, folder, out, wanted
        )
        if analysis is None:
            if as_json:
                say_json({"images": 0, "left out": unread}, indent=1)
        else:
            told = {
                "images": analysis.images,
                "errors": analysis.errors,
                "causes": analysis.counts(),
                "turned": analysis.turned(),
                "control": analysis.control(),
                "left out": unread,
                "report": str(page),
            }
            if as_json:
                say_json(told, indent=1)
            else:
                _say(told)
        refuse_unread(unread)


def _say(told: dict[str, Any]) -> None:
    share = told["errors"] / told["images"]
    click.echo(f"{told['errors']} of {told['images']} images are classified wrongly ({share:.1%})")
    for cause, count in told["causes"].items():
        click.echo(f"{count:6} {cause}")
    turned, control = told["turned"], told["control"]
    if told["errors"]:
        click.echo(
            "erased what speaks for the predicted class rather than the true one, the true one is "
            f"ahead in {turned['contrast']:.0f} errors; erased a random region instead, in "
            f"{turned['elsewhere']:.1f}"
        )
    if control is not None:
        interval = f"95 % interval {control['low']:.2f} to {control['high']:.2f}"
        click.echo(f"the random region does so {control['ratio']:.2f} times as often ({interval})")
    click.echo(f"see {told['report']}")
