"""Which class is broader than which: from pairs of names, or from WordNet."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Literal

from ..class_names import WORDNET_ID, ClassNames

_HEADER = ("narrower", "broader")


@dataclass(frozen=True)
class Hierarchy:
    """Classes, and what is broader than each.

    Attributes:
        above: class -> all classes that are broader than it, the broader ones of those included.
    """

    above: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def relation(self, a: int, b: int) -> Literal["broader", "narrower"] | None:
        """What class `a` is beside class `b`; None where neither holds the other."""
        if a in self.above.get(b, ()):
            return "broader"
        return "narrower" if b in self.above.get(a, ()) else None


def hierarchy_of(
    broader: Mapping[str, str | Iterable[str]] | Iterable[tuple[str, str]],
    class_names: Sequence[str],
) -> Hierarchy:
    """A hierarchy of classes, or of WordNet ids, some of which are those of classes.

    Args:
        broader: narrower name -> the next broader one, or several; or pairs of the two.
        class_names: of the classifier; see `ClassNames` for how a name may be written. WordNet ids
            of no class are steps between classes; any other name must be one of a class.

    Raises:
        ValueError: a name of no class; names in a circle; or WordNet ids, and those of the classes
            are not known.
        ModuleNotFoundError: WordNet ids of ImageNet's classes take timm.

    >>> found = hierarchy_of({"beagle": "dog", "dog": "animal"}, ["animal", "beagle", "dog"])
    >>> found.relation(0, 1), found.relation(1, 2), found.relation(2, 2)
    ('broader', 'narrower', None)
    """
    if isinstance(broader, Mapping):
        broader = [
            (low, high)
            for low, given in broader.items()
            for high in ([given] if isinstance(given, str) else given)
        ]
    names, nodes = ClassNames(class_names), dict[str, int | str]()

    def node(name: str) -> int | str:
        if name not in nodes:
            of_wordnet = WORDNET_ID.fullmatch(name) and name not in names.names
            nodes[name] = names.wordnet.get(name, name) if of_wordnet else names.index(name)
        return nodes[name]

    graph: dict[int | str, set[int | str]] = {}
    for low, high in broader:
        graph.setdefault(node(low), set()).add(node(high))
    if any(isinstance(one, str) for one in nodes.values()) and not names.wordnet:
        raise ValueError(
            "the hierarchy is one of WordNet ids, and those of the classes are not known: give "
            "pairs of class names instead"
        )
    above: dict[int | str, set[int | str]] = {}
    try:
        for one in TopologicalSorter(graph).static_order():
            next_above = graph.get(one, set())
            above[one] = next_above.union(*(above[high] for high in next_above))
    except CycleError as error:
        # graphlib gives the broader one first
        circle = " < ".join(
            one if isinstance(one, str) else names.names[one] for one in reversed(error.args[1])
        )
        raise ValueError(f"no class can be broader than itself: {circle}") from error
    classes = {
        low: frozenset(high for high in found if isinstance(high, int))
        for low, found in above.items()
        if isinstance(low, int)
    }
    return Hierarchy({low: high for low, high in classes.items() if high})


def read_hierarchy(path: str | os.PathLike[str], class_names: Sequence[str]) -> Hierarchy:
    """A hierarchy from a file: CSV with "narrower,broader" names a line, or WordNet's `is_a` list.

    The latter, `wordnet.is_a.txt` of ImageNet, has a broader and then a narrower WordNet id a line,
    with a blank between. A CSV file may start with the line "narrower,broader"; empty lines, and
    those that start with #, are skipped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `hierarchy_of`; or a line that has not two names. Both name the file.
        ModuleNotFoundError: as `hierarchy_of`.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: write narrower,broader a line") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        if len(words) == 2 and all(map(WORDNET_ID.fullmatch, words)):
            pairs.append((words[1], words[0]))
            continue
        names = [name.strip() for name in next(csv.reader([line], skipinitialspace=True))]
        if len(names) != 2 or not all(names):
            raise ValueError(
                f"{path}: line {number} is {line!r}, it must be narrower,broader, a name with a "
                "comma in quotes; or two WordNet ids, the broader one first, with a blank between"
            )
        if pairs or tuple(name.casefold() for name in names) != _HEADER:
            pairs.append((names[0], names[1]))
    if not pairs:
        raise ValueError(f"{path} names no classes: write narrower,broader a line")
    try:
        return hierarchy_of(pairs, class_names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
