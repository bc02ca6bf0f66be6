"""`learnable-cam doctor`: its options."""

import click

from ..common import (
    EXIT_CODES,
    Chosen,
    attention_option,
    json_option,
    line,
    model_options,
    one_line,
    say_json,
)


@click.command(
    "doctor",
    short_help="Whether what is here fits together, and what to do where not.",
    epilog="Example: learnable-cam doctor --model torchvision:resnet50 --attention my-training/"
    f"attention\n\n{EXIT_CODES}",
)
@model_options()
@attention_option
@json_option
def doctor_command(chosen: Chosen, attention: str | None, as_json: bool) -> None:
    """Whether all is well here: versions and device; and whether a model, its layers and an
    attention fit, and what to do where they do not. Exit code 1 where something does not."""
    with one_line("train"):
        from ..doctor import examine

        checks = examine(chosen, attention)
        if as_json:
            say_json([vars(check) for check in checks], indent=1)
        else:
            for check in checks:
                click.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {line(check.found)}")
        bad = [check.name for check in checks if not check.ok]
        if bad:
            raise click.ClickException(f"not well: {', '.join(bad)}")
