"""The command `learnable-cam`."""

from __future__ import annotations

from pathlib import Path

try:
    import click
except ModuleNotFoundError as error:
    raise SystemExit("the command needs: pip install 'learnable-cam-plugin[train]'") from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="learnable-cam-plugin")
def main() -> None:
    """Learned class activation maps: one forward pass, no gradients."""


@main.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("quickstart-output"),
    show_default=True,
    help="Folder for the table, the picture and the attention.",
)
@click.option("--seed", default=0, show_default=True, help="Of the images and both trainings.")
def quickstart(out: Path, seed: int) -> None:
    """Draw images, train a classifier and its attention, compare with Grad-CAM; in minutes.

    Run again after an interruption, it continues the attention's training.
    """
    from .checkpoint import CheckpointError
    from .quickstart import quickstart as run

    try:
        run(out, seed)
    except CheckpointError as error:
        raise click.ClickException(f"{error}. Choose another --out, or remove {out}.") from error
