"""Photographs and their labels: from the names of folders, or from a CSV file."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from ..class_names import ClassNames
from ..data import photo_files
from ..wording import warn

_COLUMNS = ("file", "label")
_TOLD = 3  # rows that are named when many are wrong


def photographs(
    folder: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None,
    class_names: Sequence[str],
) -> list[tuple[Path, int]]:
    """The photographs of a folder, and the class of each; none of them is opened.

    Args:
        folder: the photographs, at any depth.
        labels: a CSV file with the columns `file`, within the folder, and `label`. Photographs
            that it does not name are left out, with a warning. None takes the sub-folder of
            `folder` that a photograph lies in for its label.
        class_names: of the classifier; see `ClassNames` for how a label may be written.

    Returns:
        (path, index of the class), in the order of the file, or of the names.

    Raises:
        FileNotFoundError: there is no such folder or file, or no photograph.
        ValueError: a label that there is not; of a CSV file also a file that is not there, or
            twice, naming the rows.
    """
    names = ClassNames(class_names)
    if labels is not None:
        return _of_file(Path(folder), Path(labels), names)
    found = photo_files(folder)
    within = {path: path.relative_to(folder).parts for path in found}
    bare = next((path for path, parts in within.items() if len(parts) == 1), None)
    if bare is not None:
        raise ValueError(
            f"{bare} has no label: put it into a sub-folder that is named as its class, or give "
            "the labels as a CSV file"
        )
    wrong: list[str] = []
    folders = sorted({parts[0] for parts in within.values()})
    classes = {name: _class_of(name, names, name, wrong) for name in folders}
    _refuse(f"sub-folders of {folder} are taken for labels", wrong)
    return [(path, classes[parts[0]]) for path, parts in within.items()]


def _of_file(folder: Path, labels: Path, names: ClassNames) -> list[tuple[Path, int]]:
    found: list[tuple[Path, int]] = []
    seen: dict[str, int] = {}
    wrong: list[str] = []
    for number, row in _rows(labels):
        path, where = folder / row["file"], f"row {number}"
        if not path.exists():  # as Windows writes it
            path = folder / PureWindowsPath(row["file"]).as_posix()
        before = seen.setdefault(os.path.abspath(path), number)
        if before != number:
            wrong.append(f"{where}: {row['file']!r} is in row {before} already")
        elif not path.is_file():
            wrong.append(f"{where}: there is no file {path}")
        else:
            found.append((path, _class_of(row["label"], names, where, wrong)))
    _refuse(str(labels), wrong)
    if not found:
        raise ValueError(f"{labels} has no row below its header: a photograph's file and label")
    others = [path for path in photo_files(folder) if os.path.abspath(path) not in seen]
    if others:
        warn(
            f"{labels} names no label of {len(others)} photographs, which are left out: "
            f"{', '.join(str(path) for path in others[:_TOLD])}"
            + (", ..." if len(others) > _TOLD else "")
        )
    return found


def _rows(labels: Path) -> list[tuple[int, dict[str, str]]]:
    """Each row of a CSV file with the number of the line that it ends in."""
    try:
        with open(labels, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            header = [name.strip() for name in reader.fieldnames or ()]
            if any(header.count(name) != 1 for name in _COLUMNS):
                raise ValueError(
                    f"{labels} must start with a row that names the columns file,label, each once, "
                    f"got {','.join(header)!r}"
                )
            reader.fieldnames, rows = header, []
            for row in reader:
                number = reader.line_num
                if None in row or None in row.values():
                    raise ValueError(
                        f"{labels}: row {number} has not the {len(header)} columns of the header; "
                        'a name with a comma goes in quotes, as "tench, Tinca tinca"'
                    )
                rows.append((number, row))
            return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{labels} is no CSV file in UTF-8: {error}") from error


def _class_of(given: str, names: ClassNames, where: str, wrong: list[str]) -> int:
    """The class that is meant; or why there is none, added to `wrong`, and any number."""
    try:
        return names.index(given)
    except ValueError as error:
        wrong.append(f"{where}: {error}")
        return -1


def _refuse(where: str, wrong: Sequence[str]) -> None:
    if wrong:
        more = f"; and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else ""
        raise ValueError(f"{where}: {'; '.join(wrong[:_TOLD])}{more}")
