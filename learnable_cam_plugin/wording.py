"""Names, and what another library said, on one line of a message."""

from collections.abc import Sequence
from textwrap import shorten


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names for a message; of more than so many the first, and how many there are besides.

    >>> listed(["head.weight", "head.bias", "stem.weight"], most=2)
    'head.weight, head.bias and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plain(error: Exception) -> str:
    """What an error says, on one short line, whatever a file made it say."""
    said = "".join(c if c.isprintable() else " " for c in str(error))
    named = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return named + shorten(said, 300, placeholder=" ...")
