"""Python in a process of its own: what it prints, and how much memory it takes at most."""

import subprocess
import sys
from pathlib import Path

import pytest

# The peak of this very program. getrusage's ru_maxrss will not do: it keeps the parent's over exec.
_PEAK = """
def peak():
    "MB"
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
"""


def python(code: str, *arguments: object) -> str:
    """What `code`, which may ask for `peak()` in MB, prints in a fresh interpreter."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    command = [sys.executable, "-c", _PEAK + code, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout
