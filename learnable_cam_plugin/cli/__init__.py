"""The command `learnable-cam`: a sub-command's options in a file of `commands`, what it does in a
module of its name.

Those modules bring torch and matplotlib, so they are imported when they run, not for the help.
"""

try:
    import click
except ModuleNotFoundError as error:
    raise SystemExit("the command needs: pip install 'learnable-cam-plugin[train]'") from error

from .commands import COMMANDS
from .common import EXIT_CODES


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="learnable-cam-plugin")
def main() -> None:
    """Learned class activation maps: one forward pass, no gradients."""


for command in COMMANDS:
    main.add_command(command)
