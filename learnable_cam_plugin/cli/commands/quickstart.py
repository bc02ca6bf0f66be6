"""`learnable-cam quickstart`: its options."""

from pathlib import Path

import click

from ..common import FOLDER, one_line


@click.command(
    "quickstart",
    short_help="A minute's look at what it does, beside Grad-CAM.",
    epilog="Example: learnable-cam quickstart --train --out my-first-look",
)
@click.option(
    "--out",
    type=FOLDER,
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
        from ...checkpoint import CheckpointError
        from ..quickstart import quickstart

        try:
            quickstart(out, seed, train)
        except CheckpointError as error:
            advice = f"{error}. Choose another --out, or remove {out}."
            raise click.ClickException(advice) from error
