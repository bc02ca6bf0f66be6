"""What a run that may break off has done: a line of JSON a photograph, whole or not there."""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from ..atomic import atomic_path
from ..training.folder import held_folder

RECORDS, SETTINGS = "explanations.jsonl", "settings.json"
Row = dict[str, Any]


@contextmanager
def records(
    out: Path, settings: Mapping[str, Any]
) -> Iterator[tuple[dict[str, str], Callable[[Row], None]]]:
    """What an earlier run in the folder `out` did: photograph, as `key` names it -> "stem" of its
    row; and what adds a row.

    Rows of photographs that were changed since, or whose files are gone, are dropped, and so is a
    line that was cut off.

    Raises:
        RuntimeError: another run is writing to it.
        ValueError: the earlier run had other settings, naming them; or it is no folder of ours.
        OSError: the folder cannot be written to, or is full. The file has whole lines only.
    """
    path = out / RECORDS
    _check_settings(out, json.loads(json.dumps(settings)))
    done: dict[str, str] = {}
    with alone(out):
        with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as kept:
            for row in whole_rows(out):
                done[key(row["photo"])] = row["stem"]
                kept.write(_line(row))
        with open(path, "ab", buffering=0) as handle:
            yield done, partial(_add, handle)


def _add(handle: FileIO, row: Row) -> None:
    """A row at the end of an unbuffered file: all of it, or an OSError and nothing."""
    before, content, path = handle.tell(), _line(row).encode(), str(handle.name)
    try:
        written = handle.write(content)
    except OSError as error:
        raise OSError(error.errno, f"cannot write ({error.strerror})", path) from error
    if written < len(content):
        handle.truncate(before)
        raise OSError(errno.ENOSPC, "cannot write (no space left)", path)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """The folder, made if it has to be, for this run alone.

    Raises:
        RuntimeError: another run writes to it.
        OSError: it cannot be made, or not be written to.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held_folder(out))
        except RuntimeError as error:
            raise RuntimeError(
                f"another run writes to {out}: wait for its end, or choose another --out"
            ) from error
        yield


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _check_settings(out: Path, settings: Mapping[str, Any]) -> None:
    path = out / SETTINGS
    if path.exists():
        try:
            then = dict(json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is of no run of explain: choose another --out") from error
        other = [name for name in {**then, **settings} if then.get(name) != settings.get(name)]
        if other:
            told = ", ".join(f"{n}: {then.get(n)} then, {settings.get(n)} now" for n in other)
            raise ValueError(
                f"{out} holds explanations with other settings ({told}): choose another --out, or "
                f"remove {out}"
            )
        return
    if (out / RECORDS).exists():
        raise ValueError(f"{out / RECORDS} has no {SETTINGS} beside it: choose another --out")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def whole_rows(out: Path) -> Iterator[Row]:
    """The rows in a folder, of photographs that are as they were and whose files are there."""
    path = out / RECORDS
    if path.exists():
        with open(path, encoding="utf-8", errors="replace") as handle:
            yield from (row for line in handle if (row := _row(line, out)) is not None)


def _row(line: str, out: Path) -> Row | None:
    try:
        row = json.loads(line)
        names = [name for one in row["explanations"] for name in one["files"].values()]
        same = row["state"] == state(row["photo"]) and isinstance(row["stem"], str)
        return row if same and all((out / name).is_file() for name in names) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def key(photo: str | os.PathLike[str]) -> str:
    """The same for a photograph, wherever the command is run."""
    return os.path.abspath(photo)


def state(photo: str | os.PathLike[str]) -> list[int]:
    """Size and time of change of a file: other numbers, another photograph."""
    found = os.stat(photo)
    return [found.st_size, found.st_mtime_ns]
