"""Photographs and their labels: from the names of folders, or from a CSV file."""

import csv
import difflib
import os
import re
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from torchvision.models import EfficientNet_B0_Weights

from ..data import photo_files

# what WordNet 3.0 numbers its nouns by, and ImageNet its classes
WORDNET_ID = re.compile(r"n\d{8}")
_COLUMNS = ("file", "label")
_TOLD = 3  # rows that are named when many are wrong
# ImageNet has these names twice; torchvision gave one class of each another
_TWICE = {"crane": [134, 517], "maillot": [638, 639], "missile": [657, 744]}


class ClassNames:
    """Which class is meant by what people write: a name, an index, or a WordNet id.

    Case, underscores and punctuation between words do not matter (signs do: "C++" is no "C#"), and
    of a name with synonyms ("tench, Tinca tinca") one is enough, unless several classes have it;
    the first one counts before the others. What is a name is taken as one, then as an index.
    WordNet ids are known if they are the names, or if these are the 1,000 of ImageNet; the latter
    takes timm.

    Args:
        names: one a class, in the order of the scores.

    >>> names = ClassNames(["tench, Tinca tinca", "great white shark"])
    >>> names.index("Great_White_Shark"), names.index("tench"), names.index("1")
    (1, 0, 1)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        synonyms = [[part.strip() for part in name.split(",")] for name in self.names]
        firsts = [[name, parts[0]] for name, parts in zip(self.names, synonyms, strict=True)]
        # the strictest first: "Cardigan, Cardigan Welsh corgi" is no "cardigan"
        self._tables = (
            (_plain, _TWICE if _are_of_imagenet(self.names) else {}),
            (_composed, _table(_composed, [[name] for name in self.names])),
            (_composed, _table(_composed, firsts)),
            (_composed, _table(_composed, synonyms)),
            (_plain, _table(_plain, firsts)),
            (_plain, _table(_plain, synonyms)),
        )

    def index(self, given: str) -> int:
        """The class of what was written.

        Raises:
            ValueError: there is no such class, with those that are close; or several.
            ModuleNotFoundError: a WordNet id of ImageNet's classes takes timm.
        """
        given = given.strip()
        for key, table in self._tables:
            found = table.get(key(given), [])
            if len(found) == 1:
                return found[0]
            if found:
                several = ", ".join(f"{i} ({self.names[i]!r})" for i in found)
                raise ValueError(f"{given!r} is the name of several classes, give one's index: "
                                 f"{several}")  # fmt: skip
        if given.isdecimal() and int(given) < len(self.names):
            return int(given)
        if WORDNET_ID.fullmatch(given) and given in self.wordnet:
            return self.wordnet[given]
        raise ValueError(f"there is no class {given!r}{self._hint(given)}")

    def _hint(self, given: str) -> str:
        if given.isdecimal():
            return f": indices are 0 to {len(self.names) - 1}"
        if WORDNET_ID.fullmatch(given):
            return ": it is the WordNet id of none" if self.wordnet else (
                ": the classes' WordNet ids are not known, give names or indices"
            )  # fmt: skip
        alike = {_plain(name): name for name in self.names}
        close = difflib.get_close_matches(_plain(given), alike, 3, 0.5)
        told = f" (did you mean {', '.join(repr(alike[one]) for one in close)}?)" if close else ""
        return f"{told}: give a name, or an index of 0 to {len(self.names) - 1}"

    @cached_property
    def wordnet(self) -> dict[str, int]:
        """WordNet id -> class; empty if they are not known.

        Raises:
            ModuleNotFoundError: the classes are ImageNet's, and timm is not installed.
        """
        if all(map(WORDNET_ID.fullmatch, self.names)):
            return {name: index for index, name in enumerate(self.names)}
        if not _are_of_imagenet(self.names):
            return {}
        from timm.data import ImageNetInfo

        return {name: index for index, name in enumerate(ImageNetInfo().label_names())}


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
        warnings.warn(
            f"{labels} names no label of {len(others)} photographs, which are left out: "
            f"{', '.join(str(path) for path in others[:_TOLD])}"
            + (", ..." if len(others) > _TOLD else ""),
            stacklevel=3,
        )
    return found


def _rows(labels: Path) -> list[tuple[int, dict[str, str]]]:
    """Each row of a CSV file with its number, the header being row 1."""
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
            for number, row in enumerate(reader, 2):
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


def _table(key: Callable[[str], str], names: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """What each class may be called -> the classes that are."""
    found = defaultdict[str, list[int]](list)
    for index, given in enumerate(names):
        for one in {key(name) for name in given}:
            found[one].append(index)
    return found


def _composed(name: str) -> str:
    """Letters with their accents as one character each: file systems take them apart."""
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    """A name without what people write in different ways."""
    bare = _composed(name.casefold()).strip(" _.,:;'\"()[]\t")
    return re.sub(r"(?<=\w)[\s_.,:;'’\"()\[\]/&-]+(?=\w)|_+", " ", bare)


def _are_of_imagenet(names: Sequence[str]) -> bool:
    """Whether they are the 1,000 classes of ImageNet in their order; libraries spell some apart."""
    known = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    same = [_plain(a.split(",")[0]) == _plain(b) for a, b in zip(names, known, strict=False)]
    return len(names) == len(known) and sum(same) >= 0.9 * len(known)
