"""Everything that is measured of explanations, one command each.

    python -m benchmarks compare synthetic --out results/synthetic
    python -m benchmarks COMMAND --help

Run from the folder that holds `benchmarks`, or with it on PYTHONPATH.
"""

from importlib import import_module

import click

COMMANDS = (
    "compare",
    "speed",
    "paired",
    "sanity",
    "ablations",
    "latency",
    "universal",
    "judge",
    "inputs",
    "distil",
    "finetune",
    "architectures",
    "export",
    "classes",
    "planted",
)


class _Commands(click.Group):
    """A command's module, and the libraries that it needs, are imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(f"benchmarks.commands.{cmd_name}").main


@click.command(cls=_Commands, help=__doc__)
def main() -> None:
    """The group."""


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
