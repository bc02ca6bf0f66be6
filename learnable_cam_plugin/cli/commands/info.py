"""`learnable-cam info`: its options."""

import click

from ..common import EXIT_CODES, json_option, one_line, say_json


@click.command(
    "info",
    short_help="What is in an attention's file, or an ONNX file.",
    epilog=f"Example: learnable-cam info my-training/attention\n\n{EXIT_CODES}",
)
@click.argument("file")
@json_option
def info_command(file: str, as_json: bool) -> None:
    """What is in FILE: an attention (a file, a folder, hf://owner/name), or an ONNX file.

    Of an attention its mechanism, layers and classes, and what it was made for and how.
    """
    with one_line("train"):
        from ..info import info, table

        found = info(file)
        if as_json:
            say_json(found, indent=1)
        else:
            click.echo(table(found))
