"""`learnable-cam explain` on many photographs: memory, corrupt ones, a kill half way.

    python -m tests.cli.scale --photos ../shared/data/imagenet_samples

The photographs are linked to as often as it takes. It prints a line of JSON; `test_explain.py`
tries the same with few.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from learnable_cam_plugin.data import photo_files

_RUN = """
import sys
from learnable_cam_plugin.cli import main
try:
    main(sys.argv[1:])
finally:
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    print(f"peak {int(line.split()[1]) // 1024}")
"""


def linked(files: list[Path], folder: Path, count: int) -> Path:
    """A folder of `count` links to photographs."""
    folder.mkdir()
    for i, file in zip(range(count), itertools.cycle(files), strict=False):
        (folder / f"{i:05d}.jpg").symlink_to(file.resolve())
    return folder


def started(folder: Path, out: Path, model: str) -> subprocess.Popen[str]:
    options = ["--write", "overlay,npy", "--out", str(out), "--model", model]
    command = [sys.executable, "-c", _RUN, "explain", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, int, list[str]]:
    """Its exit code, its peak memory in MB, and the lines of its errors."""
    told, errors = process.communicate()
    peaks = [line.split()[1] for line in told.splitlines() if line.startswith("peak ")]
    return process.returncode, int(peaks[0]), errors.strip().splitlines()


def done(out: Path) -> int:
    records = out / "explanations.jsonl"
    return records.read_bytes().count(b"\n") if records.exists() else 0


@click.command()
@click.option("--photos", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--model", default="efficientnet-lite0", show_default=True)
@click.option("--few", default=200, show_default=True)
@click.option("--many", default=2000, show_default=True)
@click.option("--damaged", default=500, show_default=True, help="Of these 5 are corrupt.")
@click.option("--part", type=click.Choice(["memory", "killed"]), multiple=True)
def main(photos: Path, model: str, few: int, many: int, damaged: int, part: tuple[str]) -> None:
    """Peak memory of many photographs against few; corrupt ones, and a kill half way."""
    files, found = photo_files(photos), {"model": model}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for count in (few, many) if "memory" in part or not part else ():
            process = started(linked(files, place / str(count), count), place / f"o{count}", model)
            code, peak, errors = ended(process)
            assert (code, done(place / f"o{count}")) == (0, count), errors
            found[f"peak of {count:,} in MB"] = peak
        if "killed" in part or not part:
            folder, out = linked(files, place / "damaged", damaged), place / "out"
            bad = [folder / f"{i * damaged // 5:05d}.jpg" for i in range(5)]
            for file in bad:
                content = file.read_bytes()
                file.unlink()
                file.write_bytes(content[: len(content) // 2])
            process = started(folder, out, model)
            while done(out) < damaged // 2:
                assert process.poll() is None
                time.sleep(0.1)
            process.kill()
            process.communicate()
            found["done when killed"] = done(out)
            code, _, errors = ended(started(folder, out, model))
            named = [file for file in bad if any(str(file) in line for line in errors)]
            assert (code, done(out), len(named)) == (1, damaged - 5, 5), errors
            found |= {"explained": done(out), "named": len(named), "exit code": code}
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
