"""Photographs for the commands, drawn; and how a command is asked."""

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from learnable_cam_plugin.cli import main

from .networks import HERE


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


def rows(out: Path) -> list[dict]:
    """Of explanations.jsonl."""
    return [json.loads(line) for line in (out / "explanations.jsonl").read_text().splitlines()]


def content(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
