"""The command `learnable-cam`: a module a command."""

try:
    import click
except ModuleNotFoundError as error:
    raise SystemExit("the command needs: pip install 'learnable-cam-plugin[train]'") from error

from . import explain, quickstart


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="learnable-cam-plugin")
def main() -> None:
    """Learned class activation maps: one forward pass, no gradients."""


for module in (quickstart, explain):
    main.add_command(module.command)
