"""A recipe, a mechanism, a metric and a peer of a user's own: what the how-to pages make works.

The pages run as they are; what they leave is looked at. Each piece has at most 40 lines.
"""

import ast
import csv
import json

import pytest
import torch

from learnable_cam_plugin import load_attention
from learnable_cam_plugin.metrics import METRICS

from .pages import DOCS, run

pytestmark = pytest.mark.filterwarnings("ignore")


def page(name):
    return DOCS / "how-to" / f"write-a-{name}.md"


def lines_of(path, name):
    """Lines of a class or function that a page defines, and of what its registration takes."""
    for block in path.read_text().split("```python\n")[1:]:
        for node in ast.parse(block.split("```")[0]).body:
            if getattr(node, "name", None) == name:
                return node.end_lineno - node.lineno + 1
    raise AssertionError(f"{path} defines no {name}")


def test_a_mechanism_is_trained_saved_loaded_and_shown(folder):
    made = run(page("mechanism"))
    kind, again, x = made["NarrowAttention"], made["again"], made["x"]
    assert lines_of(page("mechanism"), "NarrowAttention") <= 40
    assert type(again) is kind
    assert again.settings() == {"width": 8}
    assert again.origin.recipe["name"] == "every-threshold"
    for before, after in zip(made["attention"].parameters(), again.parameters(), strict=True):
        assert torch.equal(before, after)
    maps = made["cam"].saliency(x)
    assert maps.shape == x[:, 0].shape
    assert (float(maps.min()), float(maps.max())) == (0.0, 1.0)
    smooth = made["cam"].saliency(x, eigen_smooth=True)
    assert smooth.shape == maps.shape
    assert (folder / "narrow.png").stat().st_size > 5_000


def test_a_recipe_is_trained_resumed_recorded_and_plotted(folder):
    made = run(page("recipe"))
    assert lines_of(page("recipe"), "Sufficient") <= 40
    record = load_attention("sufficient").origin.recipe
    assert (record["name"], record["area"], record["epochs"]) == ("sufficient", 0.5, 2)
    with open("sufficient-training/history.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"loss", "cross_entropy", "area"} <= rows[0].keys()
    assert (folder / "sufficient-training/history.png").stat().st_size > 5_000
    assert (folder / "sufficient.png").stat().st_size > 5_000
    # with another value of a setting of the recipe's own, it is refused
    changed = made["dataclasses"].replace(made["Sufficient"](), area=0.7)
    trainer = made["LearnableCAMTrainer"](
        made["model"],
        ["features"],
        recipe=changed,
        normalization=made["normalization"],
        output_dir="sufficient-training",
        epochs=2,
    )
    with pytest.raises(ValueError, match=r"area: 0.5 then, 0.7 now"):
        trainer.fit(made["loader"], resume=True)


def test_a_metric_is_computed_and_shown_in_the_report(folder):
    made = run(page("metric"))
    assert lines_of(page("metric"), "removal") <= 40
    assert len(made["values"]) == len(made["x"])
    assert 0 <= made["low"] <= made["mean"] <= made["high"] <= 100
    results = json.loads((folder / "my-results/results.json").read_text())
    assert METRICS["removal 15%"].title in {metric["title"] for metric in results["metrics"]}
    rows = {row["method"]: row for row in results["methods"]}
    assert rows["Grad-CAM"]["all"]["removal 15%"]["n"] == 12
    assert "removal 15%" in (folder / "my-results/report.html").read_text()
    assert "removal 15%" in (folder / "my-results/results.csv").read_text()


def test_a_peer_is_trained_scored_and_shown_in_the_report(folder):
    run(page("peer"))
    assert lines_of(page("peer"), "NormCAM") <= 40
    assert lines_of(page("peer"), "blank") <= 40
    results = json.loads((folder / "my-results/results.json").read_text())
    rows = {row["method"]: row for row in results["methods"]}
    assert rows.keys() == {"Norm-CAM", "L-CAM from nothing", "Grad-CAM"}
    assert (rows["Norm-CAM"]["forward"], rows["Norm-CAM"]["backward"]) == (1, 0)
    assert rows["L-CAM from nothing"]["all"]["AD 100%"]["n"] == 12
    report = (folder / "my-results/report.html").read_text()
    assert all(name in report for name in rows)
    attention = load_attention(folder / "my-results/attentions/l-cam-from-nothing/attention")
    assert float(attention.weights[0].detach().abs().max()) > 0
    assert attention.origin.recipe["start"] == "attention"
