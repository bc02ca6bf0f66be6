"""Photographs for the commands, drawn; and how a command is asked."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from learnable_cam_plugin.cli import main

from .networks import HERE

ROOT = Path(__file__).resolve().parents[2]


def photographs(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder with 000.jpg and so on, of 40 x 36 pixels."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for i in range(count):
        blocks = Image.fromarray(random.integers(0, 255, (4, 5, 3), np.uint8))
        blocks.resize((40, 36)).save(folder / f"{i:03d}.jpg")
    return folder


def spoilt(path: Path) -> Path:
    """The photograph, cut in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def run(command: str, *arguments: object, model: str | None = "small") -> Result:
    """What a command does, with one of the classifiers of `networks`."""
    named = () if model is None else ("--model", f"{HERE}:{model}" if ":" not in model else model)
    return CliRunner().invoke(main, [command, *map(str, arguments), *named])


def run_limited(limit: int, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in a process that can write no file of more than `limit` bytes: a full disk. (In
    this one pytest's own files, and whatever libraries map into memory, would be cut off, too.)"""

    def full() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    asked = [command, *map(str, arguments), "--model", f"{HERE}:small"]
    whole = [sys.executable, "-B", "-m", "learnable_cam_plugin", *asked]
    return subprocess.run(
        whole, cwd=ROOT, preexec_fn=full, capture_output=True, text=True, check=False
    )


def rows(out: Path) -> list[dict]:
    """Of explanations.jsonl."""
    return [json.loads(line) for line in (out / "explanations.jsonl").read_text().splitlines()]


def content(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
