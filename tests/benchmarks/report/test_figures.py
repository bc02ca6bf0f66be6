"""Results as pictures."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from benchmarks.report.figures import write_figures

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
