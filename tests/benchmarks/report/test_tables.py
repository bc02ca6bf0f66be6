"""Results as CSV and Markdown."""

import csv
import io
from pathlib import Path

import pytest

from benchmarks.report.schema import read_results
from benchmarks.report.tables import main_tables, results_csv, scores_table

from .example import METHODS


def test_csv_has_a_row_a_method_and_four_columns_a_score(folder: Path):
    rows = list(csv.DictReader(io.StringIO(results_csv(read_results(folder)))))
    assert [row["method"] for row in rows] == [name for name, *_ in METHODS]
    assert list(rows[0])[:6] == [
        "method", "group", "forward", "backward", "ms", "common/AD 100% mean",
    ]  # fmt: skip
    assert len(rows[0]) == 5 + 2 * 3 * 4
    assert rows[1]["common/AD 100% mean"] == "25.42"
    assert rows[1]["all/AD 100% n"] == "434"
    assert rows[2]["common/AD 100% mean"] == rows[3]["all/AD 100% low"] == ""


def test_a_table_of_scores_has_intervals(folder: Path):
    table = scores_table(read_results(folder), "common", ["AD 100%", "insertion"]).splitlines()
    assert table[0] == "| method | passes | AD 100% | insertion |"
    assert table[3] == "| Grad-CAM | 1 + 1 | 25.4 [24.4, 26.4] | 0.900 |"
    assert table[4].endswith(" | – | 0.900 |")
    assert len(scores_table(read_results(folder), "all", ["AD 100%"]).splitlines()) == 2 + 3


@pytest.mark.parametrize(
    ("subset", "metrics"), [("some", ["AD 100%"]), ("all", ["x"]), ("all", [])]
)
def test_a_table_of_scores_names_what_there_is(folder: Path, subset: str, metrics: list[str]):
    with pytest.raises(ValueError, match=r"'common', 'all'.*'AD 100%', 'AD 50%', 'insertion'"):
        scores_table(read_results(folder), subset, metrics)


def test_the_main_tables_have_the_metrics_that_are_not_of_this_package_too(folder: Path):
    results = read_results(folder)
    results["metrics"].append({"key": "mine", "group": "my own"})
    results["methods"][0]["common"]["mine"] = {"mean": 12.5, "n": 60}
    text = main_tables(results)
    assert "| method | passes | AD 100% | AD 50% |" in text
    assert "| LearnableCAM | 1 + 0 | 12.5 |" in text
    assert "explained anew" not in text
