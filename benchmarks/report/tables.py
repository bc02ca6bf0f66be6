"""A benchmark's results as a CSV file and as Markdown tables."""

import csv
import io
from collections.abc import Sequence

from learnable_cam_plugin.comparison import markdown_table

from .schema import SUBSETS, MeanScore, MethodRow, Results, SubsetName, finite, mean_score

MASKED = ("AD 100%", "IC 100%", "AD 50%", "IC 50%", "AD 15%", "IC 15%")
CURVES = ("insertion", "deletion", "ROAD", "complexity", "energy inside", "pointing game")
AGAIN = ("coherency", "ADCC", "grid pointing")
# groups of metrics that are in the report and in results.json only
NOT_SHOWN = ("mean mask", "blur mask")


def _passes(method: MethodRow) -> str:
    """Forward and backward passes, as "1 + 1"."""
    counts = (method.get("forward"), method.get("backward"))
    return " + ".join(f"{count:g}" if finite(count) else "?" for count in counts)


def results_csv(results: Results) -> str:
    """Every score as CSV text, a row a method; a missing one is an empty cell.

    Columns: method, group, forward, backward, ms, and for each subset ("common", "all") and metric
    `<subset>/<metric> mean`, `... low`, `... high`, `... n`.
    """
    keys = [metric["key"] for metric in results["metrics"]]
    columns = ("method", "group", "forward", "backward", "ms")
    fields = ("mean", "low", "high", "n")
    scores = [(subset, key, field) for subset in SUBSETS for key in keys for field in fields]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *(f"{subset}/{key} {field}" for subset, key, field in scores)])
    for method in results["methods"]:
        cells = ((mean_score(method, sub, key) or {}).get(name) for sub, key, name in scores)
        writer.writerow([*map(method.get, columns), *cells])
    return text.getvalue()


def scores_table(results: Results, subset: SubsetName, metrics: Sequence[str]) -> str:
    """Some metrics of one subset as a Markdown table, cells "mean [low, high]".

    Beside a method stand its passes, forward + backward. Without any of the scores it is left out.
    """
    known = {metric["key"]: metric for metric in results["metrics"]}
    unknown = [key for key in metrics if key not in known]
    if subset not in SUBSETS or unknown or not metrics:
        raise ValueError(
            f"got the subset {subset!r} and the metrics {list(metrics)}; expected one of "
            f"{SUBSETS} and some of {list(known)}; give those"
        )
    rows = []
    for method in results["methods"]:
        scores = {key: mean_score(method, subset, key) for key in metrics}
        if any(scores.values()):
            cells = {key: _cell(found, known[key].get("unit")) for key, found in scores.items()}
            name = method["method"].replace("|", "\\|")
            rows.append({"method": name, "passes": _passes(method), **cells})
    if not rows:
        raise ValueError(
            f"no method has any of {list(metrics)} on the subset {subset!r}; give another subset "
            "or other metrics"
        )
    return markdown_table(rows)


def number(value: float, unit: str | None) -> str:
    """Percent to one decimal, anything else to three significant digits.

    >>> number(25.42, "%"), number(0.9, ""), number(0.001234, ""), number(12345.6, "")
    ('25.4', '0.900', '0.00123', '12,346')
    """
    if unit == "%":
        return f"{value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def _cell(found: MeanScore | None, unit: str | None) -> str:
    if not found:
        return "–"
    values = (found.get(name) for name in ("mean", "low", "high"))
    mean, low, high = (number(value, unit) if finite(value) else "" for value in values)
    return f"{mean} [{low}, {high}]" if low and high else mean


def main_tables(results: Results) -> str:
    """The main columns as Markdown tables: on the common images, and on all."""
    data, rows = results["data"], results["methods"]
    groups = {metric["key"]: metric.get("group") for metric in results["metrics"]}
    parts = [f"{data['name']}, {results['network']}: `{results['command']}`", *results["notes"]]

    def add(title: str, subset: SubsetName, columns: Sequence[str]) -> None:
        present = [key for key in columns if key in groups]
        if any(mean_score(row, subset, key) for row in rows for key in present):
            parts.extend([title, scores_table(results, subset, present)])

    add(f"{data['common']} images, common", "common", MASKED)
    add(f"{data['images']} images, all", "all", MASKED)
    add(f"{data['common']} images, common", "common", CURVES)
    shown = (*MASKED, *CURVES, *AGAIN)
    own = [key for key, group in groups.items() if key not in shown and group not in NOT_SHOWN]
    add("further metrics, on the images that every method has them on", "common", own)
    for subset in SUBSETS:
        scores = (mean_score(row, subset, key) for row in rows for key in AGAIN)
        sizes = " or ".join(map(str, sorted({score["n"] for score in scores if score})))
        add(f"explained anew: {sizes} images or mosaics", subset, AGAIN)
    return "\n\n".join(parts) + "\n"
