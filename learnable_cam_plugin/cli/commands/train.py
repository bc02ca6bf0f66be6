"""`learnable-cam train`: its options."""

from pathlib import Path

import click

from ..common import EXIT_CODES, FOLDER, Chosen, json_option, model_options, one_line, say_json


@click.command(
    "train",
    short_help="Train an attention beside a classifier, on a folder of photographs.",
    epilog="Example: learnable-cam train photos/ --model torchvision:resnet50 --epochs 4 "
    f"--out my-training\n\n{EXIT_CODES}",
)
@click.argument("folder", type=click.Path(path_type=Path))
@model_options(required=True)
@click.option("--recipe", default="every-threshold", help="Or l-cam-img, l-cam-fm: the paper's.")
@click.option(
    "--start",
    metavar="NAME|FILE",
    help="head, universal, random, or an attention's file; the recipe's first without.",
)
@click.option("--layer", "layers", multiple=True, help="To read, by name; found without.")
@click.option("--epochs", type=click.IntRange(1), default=8, help="Passes over FOLDER.")
@click.option("--batch-size", type=click.IntRange(1), default=32, help="Images a step.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Of the training.")
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes that read images.")
@click.option(
    "--validate", type=click.Path(path_type=Path), help="Another folder, scored after each epoch."
)
@click.option("--skip-unreadable", is_flag=True, help="Leave photographs out that are damaged.")
@click.option("--out", type=FOLDER, default="my-training", help="Folder of the training.")
@json_option
def train_command(
    folder: Path,
    chosen: Chosen,
    recipe: str,
    start: str | None,
    layers: tuple[str, ...],
    epochs: int,
    batch_size: int,
    seed: int,
    workers: int,
    validate: Path | None,
    skip_unreadable: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Train an attention beside a classifier on the photographs in FOLDER; no labels are needed.

    It leaves the attention, history.csv and history.png, the state to go on from, and pictures.png:
    photographs explained without the training and with it. Run again after an interruption, it
    continues, and ends as if there had been none.
    """
    state = out / "training.safetensors"

    def interrupted() -> str:
        if state.exists():
            return f"the training up to its last saved step is in {out}: run again to continue"
        return "nothing was saved yet, as it is every 50 steps and after each epoch: run it again"

    with one_line("train", interrupted):
        from ...checkpoint import CheckpointError
        from ..classifiers import open_classifier
        from ..train import Settings, train

        settings = Settings(recipe, start, layers, epochs, batch_size, seed, workers)
        try:
            told = train(
                open_classifier(chosen), chosen, folder, out, settings, validate, skip_unreadable
            )
        except CheckpointError as error:
            way = f". Choose another --out, or remove {out}" if state.exists() else ""
            raise click.ClickException(f"{error}{way}") from error
        if as_json:
            say_json(told, indent=1)
        else:
            figures = {n: v for n, v in told["history"][-1].items() if n != "epoch"}
            click.echo(", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
            click.echo(f"see {out / 'pictures.png'}; use it with --attention {told['attention']}")
