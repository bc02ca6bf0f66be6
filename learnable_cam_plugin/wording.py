"""What messages are made of: names, what another library said; warnings; what an extra brings."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from textwrap import shorten
from typing import Any

# whose lines lead to a warning, and are not where it is mended
_BETWEEN = frozenset({__name__.split(".")[0], "torch", "pytorch_grad_cam", "captum", "contextlib"})


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


def warn(message: str) -> None:
    """A UserWarning that names the line outside of this package, and of the libraries between, that
    led to it, however deep it is told of."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and str(frame.f_globals.get("__name__")).split(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def needed(extra: str, *packages: str) -> list[Any]:
    """Packages that an extra brings; a ModuleNotFoundError that names it if one is missing. What
    one of them misses by itself is its own error."""
    try:
        return [import_module(package) for package in packages]
    except ModuleNotFoundError as error:
        if error.name not in {*packages, *(package.partition(".")[0] for package in packages)}:
            raise
        raise ModuleNotFoundError(
            f"{error.name} is missing: pip install 'learnable-cam-plugin[{extra}]'", name=error.name
        ) from error
