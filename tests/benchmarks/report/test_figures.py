"""Results as pictures."""

import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from benchmarks.report.figures import _quality_figure, write_figures
from benchmarks.report.schema import read_results

from .example import METRICS, edit


def test_figures(folder: Path):
    quality, gallery = write_figures(folder)
    assert (quality.name, gallery.name) == ("quality-against-passes.png", "gallery.png")
    assert imread(quality).shape[1] > imread(quality).shape[0] > 400
    assert imread(gallery).std() > 0
    edit(folder, gallery={})
    assert [path.name for path in write_figures(folder)] == ["quality-against-passes.png"]


def test_figures_need_a_score_with_a_better_side(folder: Path):
    edit(folder, metrics=[{**METRICS[0], "better": ""}])
    with pytest.raises(ValueError, match=r"results\.json has no score.*run the benchmark again"):
        write_figures(folder)


@pytest.mark.parametrize("rounding", [0.0, 1e-16, 3e-15])
def test_scores_that_differ_by_rounding_have_their_names_beside_them(folder: Path, rounding):
    """A panel must span something for a name to have a place."""
    results = json.loads((folder / "results.json").read_text())
    for i, method in enumerate(results["methods"]):
        for subset in ("common", "all"):
            for score in method[subset].values():
                score.update(dict.fromkeys(("mean", "low", "high"), i * rounding))
    edit(folder, methods=results["methods"])
    quality, _ = write_figures(folder)
    assert imread(quality).std() > 0
    for axis in _quality_figure(folder, read_results(folder)).axes:
        low, high = axis.get_ylim()
        assert high - low > 1e-4
        assert not axis.get_autoscaley_on(), "it would be scaled anew once names are placed by it"
