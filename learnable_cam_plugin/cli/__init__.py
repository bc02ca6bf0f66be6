"""The command `learnable-cam`: its options here, and what a sub-command does in a module each.

Those modules bring torch and matplotlib, so they are imported when they run, not for the help.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import click
except ModuleNotFoundError as error:
    raise SystemExit("the command needs: pip install 'learnable-cam-plugin[train]'") from error

_FOLDER = click.Path(file_okay=False, writable=True, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="learnable-cam-plugin")
def main() -> None:
    """Learned class activation maps: one forward pass, no gradients."""


@contextmanager
def one_line(extra: str, interrupted: str) -> Iterator[None]:
    """What users can mend, said in a line and no traceback; `extra` has what may be missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        install = f"{error.name} is missing: pip install 'learnable-cam-plugin[{extra}]'"
        raise click.ClickException(install) from error
    except BrokenPipeError:  # of `| head`; click ends quietly
        raise
    except (OSError, ValueError) as error:  # a full disk, a folder of another training
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt as error:
        raise click.ClickException(f"interrupted; {interrupted}") from error


@main.command("quickstart")
@click.option(
    "--out",
    type=_FOLDER,
    default="quickstart-output",
    help="Folder for the pictures and the table.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    help="Of the drawn images and the fine-tuning.",
)
@click.option(
    "--train",
    is_flag=True,
    help="Fine-tune the attention beside the classifier of shapes, save it, and compare it too.",
)
def quickstart_command(out: Path, seed: int, train: bool) -> None:
    """Explain photographs and drawn images beside Grad-CAM; nothing is trained, or downloaded.

    The photographs need the extra `photos`; without it they are left out. Run again after an
    interruption, --train continues.
    """
    with one_line("train", "run again to continue"):
        from ..checkpoint import CheckpointError
        from .quickstart import quickstart

        try:
            quickstart(out, seed, train)
        except CheckpointError as error:
            advice = f"{error}. Choose another --out, or remove {out}."
            raise click.ClickException(advice) from error


@main.command("explain")
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out", type=_FOLDER, default="explanations", help="Folder for the pictures and the JSON file."
)
@click.option(
    "--top", type=click.IntRange(1, 1000), default=1, help="How many classes of each to explain."
)
def explain_command(photos: tuple[Path, ...], out: Path, top: int) -> None:
    """Explain what EfficientNet-Lite0 sees in PHOTOS, beside Grad-CAM.

    PHOTOS are image files, and folders of them. Without any it takes those that scikit-learn and
    scikit-image carry. Nothing is trained, nothing is downloaded. A photograph that cannot be read
    is named and left out, and the exit status is then 1.
    """
    with one_line("photos", f"pictures made before are in {out}; run again for all of them"):
        from .explain import explain_photos

        rows, unread = explain_photos(photos, out, top)
    for row in rows:
        name = click.format_filename(row["photo"], shorten=True)
        click.echo(f"{name}: {row['name']}, p = {row['probability']:.2f}")
    if rows:
        first, last = (out / rows[i]["picture"] for i in (0, -1))
        click.echo(f"see {first}" + (f" to {last.name}" if last != first else ""))
    for problem in unread:
        click.echo(f"left out: {problem}", err=True)
    if unread:
        raise click.ClickException(f"photographs that could not be read: {len(unread)}")
