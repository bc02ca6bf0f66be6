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


@main.command()
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("explanations"),
    show_default=True,
    help="Folder for the picture and the JSON file.",
)
@click.option("--top", default=1, show_default=True, help="How many classes of each to explain.")
def explain(photos: tuple[Path, ...], out: Path, top: int) -> None:
    """Explain what EfficientNet-Lite0 sees in PHOTOS, with the attention that comes with this.

    Without PHOTOS it takes those that scikit-learn and scikit-image carry. Nothing is trained,
    nothing is downloaded.
    """
    try:
        from .pretrained import explain_photos

        rows = explain_photos(photos, out, top)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for row in rows:
        click.echo(f"{Path(row['photo']).name}: {row['name']}, p = {row['probability']:.2f}")
    click.echo(f"see {out / 'explanations.png'}")
