"""For the reference: what docstrings write for readers of code, put as mkdocstrings reads it."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.M | re.S)
# "    a, b: of both." with the lines that go on, indented further
_SHARED = re.compile(r"^    (\w+(?:, \w+)+): (.*(?:\n {5,}.*)*)", re.M)


class Docstrings(griffe.Extension):
    """Puts a fence around each example, so that its output is not read as Markdown, and gives
    arguments that share a line in a docstring an entry each."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(docstring: str) -> str:
    """A docstring as the reference wants it.

    >>> print(rewritten("Args:\\n    a, b: two numbers."))
    Args:
        a: two numbers.
        b: two numbers.
    """

    def each(match: re.Match[str]) -> str:
        return "\n".join(f"    {name}: {match[2]}" for name in match[1].split(", "))

    fenced = _EXAMPLE.sub(lambda example: f"```pycon\n{example[0]}\n```", docstring)
    return _SHARED.sub(each, fenced)
