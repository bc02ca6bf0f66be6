"""`learnable-cam demo`: its options."""

import click

from ..common import DEFAULT, EXIT_CODES, Chosen, attention_option, model_options, one_line


@click.command(
    "demo",
    short_help="A local page: drop a photograph, slide the threshold.",
    epilog="Example: learnable-cam demo --model torchvision:resnet50 --attention my-training "
    f"--port 7861\n\n{EXIT_CODES}",
)
@model_options(DEFAULT)
@attention_option
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Of the page; the first free one from 7860."
)
def demo_command(chosen: Chosen, attention: str | None, port: int | None) -> None:
    """Serve a page to this machine: drop a photograph, pick a class, slide the map's threshold.

    It shows the map, what the threshold leaves of the photograph, and the probabilities of that.
    The page asks nothing of any other host, and what it was given is deleted. Ctrl-C ends it.
    """
    with one_line("photos"):
        from ..demo import demo

        with demo(chosen, attention, port) as address:
            click.echo(f"{address} (Ctrl-C ends it)")
            _wait()


def _wait() -> None:
    from threading import Event

    try:
        Event().wait()
    except KeyboardInterrupt:
        click.echo()  # how it is meant to end
