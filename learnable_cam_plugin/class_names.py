"""Which class is meant by what people write."""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property

from torchvision.models import EfficientNet_B0_Weights

# what WordNet 3.0 numbers its nouns by, and ImageNet its classes
WORDNET_ID = re.compile(r"n\d{8}")
# ImageNet has these names twice; torchvision gave one class of each another
_TWICE = {"crane": [134, 517], "maillot": [638, 639], "missile": [657, 744]}


class ClassNames:
    """Which class is meant by what people write: a name, an index, or a WordNet id.

    Case, underscores and punctuation between words do not matter (signs do: "C++" is no "C#"), and
    of a name with synonyms ("tench, Tinca tinca") one is enough, unless several classes have it;
    the first one counts before the others. What is a name is taken as one, then as an index,
    unless all names are numbers.
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
        self._numbers = all(name.isdecimal() for name in self.names)
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
        # where names are numbers, an index could be meant for a name
        if given.isdecimal() and not self._numbers and int(given) < len(self.names):
            return int(given)
        if WORDNET_ID.fullmatch(given) and given in self.wordnet:
            return self.wordnet[given]
        raise ValueError(f"there is no class {given!r}{self._hint(given)}")

    def _hint(self, given: str) -> str:
        if given.isdecimal() and self._numbers:
            return ": the names are numbers, so a number is a name, and no index"
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
