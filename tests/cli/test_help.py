"""The help of every command has an example that is one, and the exit codes."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from learnable_cam_plugin.cli import main

from ..reliability.processes import python

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", main.commands)
def test_the_help_has_an_example_with_options_that_there_are(name):
    told = CliRunner().invoke(main, [name, "--help"], terminal_width=1000).output
    (example,) = re.findall(r"Example: learnable-cam (.*)", told)
    command, *arguments = shlex.split(example)
    assert command == name
    main.commands[name].make_context(name, arguments)  # raises at what it does not know


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"]])
def test_the_exit_codes_are_documented(arguments):
    told = " ".join(CliRunner().invoke(main, arguments).output.split())
    assert "Exit codes: 0 all is done; 1 something is not" in told


def test_every_command_of_the_page_is_one():
    text = (ROOT / "docs" / "how-to" / "shell.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)
    lines = [line.partition(" | ")[0] for block in blocks for line in block.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert program == "learnable-cam"
        main.commands[command].make_context(command, arguments)
    assert {shlex.split(line)[1] for line in lines} == main.commands.keys() - {"quickstart"}


def test_the_commands_are_those():
    assert {"quickstart", "explain", "train", "benchmark", "info", "doctor"} <= main.commands.keys()


def test_no_help_loads_torch_or_matplotlib():
    code = """
import sys
from learnable_cam_plugin.cli import main
for name in main.commands:
    try:
        main([name, "--help"])
    except SystemExit as end:
        assert end.code == 0
assert not {"torch", "torchvision", "matplotlib", "numpy", "captum"} & sys.modules.keys()
print(peak())
"""
    assert float(python(code).split("\n")[-2]) < 100
