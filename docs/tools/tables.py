"""Tables of the site and the README, read from benchmarks/results when the site is built.

    python docs/tools/tables.py        # writes the README's table anew

A page asks for one in a comment of its own line, and gets it in the comment's place:

    <!-- table: section caltech-val/paired.md | Trainings -->

The word after "table:" names a function of `KINDS`; what follows are its arguments.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed
from benchmarks.report.schema import (  # noqa: E402
    MethodRow,
    Results,
    SubsetName,
    mean_score,
    read_results,
)
from benchmarks.report.tables import scores_table  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"

MASKED = ("AD 100%", "IC 100%", "AD 50%", "IC 50%", "AD 15%", "IC 15%")
CURVES = ("insertion", "deletion", "ROAD", "grid pointing")
ADCC = ("coherency", "complexity", "ADCC")
README_COLUMNS = (*MASKED, *CURVES, "complexity")
# folder of results -> the rows of the README's table of it
README_METHODS: dict[str, tuple[str, ...]] = {
    "lite2-caltech-val": (
        "LearnableCAM (no training)",
        "Grad-CAM",
        "Grad-CAM++",
        "FullGrad",
        "Recipro-CAM",
    ),
    "caltech-val": (
        "LearnableCAM",
        "L-CAM-Img",
        "TAME",
        "Grad-CAM",
        "RISE",
    ),
}
README_TABLE = re.compile(r"(<!-- table: readme (\S+) -->\n).*?(\n<!-- end of table -->)", re.S)


def _read(name: str) -> str:
    path = RESULTS / name
    if not path.is_file():
        raise FileNotFoundError(
            f"the site shows {path.relative_to(ROOT)}, and there is no such file"
        )
    return path.read_text()


def _results(name: str) -> Results:
    _read(f"{name}/results.json")  # a clear error where there is none
    return read_results(RESULTS / name)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right.

    >>> print(markdown(["method", "AD"], [["Grad-CAM", "22.3"]]))
    | method | AD |
    | --- | ---: |
    | Grad-CAM | 22.3 |
    """
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def readme(name: str) -> str:
    """The README's table of a folder of results, without intervals: of the common images where it
    shows slow methods, which explained no others; else of all, where all were taken."""
    rows = {row["method"]: row for row in _results(name)["methods"]}
    subset: SubsetName = "common" if "RISE" in README_METHODS[name] else "all"
    return markdown(
        ["method", "passes", *README_COLUMNS],
        [
            [
                method,
                _passes(rows[method]),
                *[_value(rows[method], key, subset) for key in README_COLUMNS],
            ]
            for method in README_METHODS[name]
        ],
    )


def _passes(row: MethodRow) -> str:
    return f"{row['forward']:,.0f} + {row['backward']:,.0f}"


def _value(row: MethodRow, key: str, subset: SubsetName) -> str:
    """The mean over the images of a subset, or over the common ones where that has none; of grid
    pointing, over all mosaics that there are."""
    everywhere = mean_score(row, "all", key) if subset == "all" else None
    if key == "grid pointing":
        everywhere = mean_score(row, "all", key)
    found = everywhere or mean_score(row, "common", key)
    if found is None or found["mean"] is None:
        raise ValueError(f"{row['method']} has no {key!r} in its results.json")
    few = f" ({found['n']})" if key == "grid pointing" and not everywhere else ""
    return f"{found['mean']:.1f}{few}"


def results(name: str, subset: SubsetName, columns: str) -> str:
    """Every method's means and 95 % intervals.

    Args:
        name: of a folder of benchmarks/results.
        subset: "common", the images that every method explains, or "all" (fast methods only).
        columns: "masked", "curves" or "adcc".
    """
    keys = {"masked": MASKED, "curves": CURVES, "adcc": ADCC}[columns]
    return scores_table(_results(name), subset, keys)


def section(name: str, title: str = "") -> str:
    """A table of a Markdown file as it stands there: the first one after the bold `title`."""
    text = _read(name)
    start = text.find(f"**{title}") if title else 0
    if start < 0:
        raise ValueError(f"benchmarks/results/{name} has no heading '**{title}'")
    found = re.search(r"^\|.*?(?=^[^|]|\Z)", text[start:], re.M | re.S)
    if found is None:
        raise ValueError(f"benchmarks/results/{name} has no table after '{title}'")
    return found.group().strip()


def command(name: str) -> str:
    """The command that made a Markdown file: its first line, in backticks."""
    return _read(name).partition("\n")[0]


def last_line(name: str) -> str:
    """A Markdown file's last line: what it was measured on."""
    return _read(name).strip().rpartition("\n")[2]


KINDS: dict[str, Callable[..., str]] = {
    "readme": readme,
    "results": results,
    "section": section,
    "command": command,
    "last-line": last_line,
}


def expand(text: str) -> str:
    """A page's Markdown with every table that it asks for."""

    def one(match: re.Match[str]) -> str:
        kind, _, arguments = match.group(1).strip().partition(" ")
        if kind not in KINDS:
            raise ValueError(f"there is no table {kind!r}; there are {sorted(KINDS)}")
        table = KINDS[kind](*[part.strip() for part in arguments.split("|") if part.strip()])
        return (
            table if "\n" not in table else f'<div class="figures" markdown>\n\n{table}\n\n</div>'
        )

    return re.sub(r"^<!-- table:(.*?)-->$", one, text, flags=re.M)


def with_table(text: str) -> str:
    """The README's text with its tables as the results say."""
    found, count = README_TABLE.subn(lambda m: f"{m[1]}{readme(m[2])}{m[3]}", text)
    if count != len(README_METHODS):
        raise ValueError(f"README.md needs the tables {list(README_METHODS)}, and has {count}")
    return found


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_table(path.read_text()))
