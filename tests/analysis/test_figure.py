"""The static figure of a case."""

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.text import Text
from PIL import Image

from learnable_cam_plugin.analysis import figure
from learnable_cam_plugin.analysis.figure import write_figure
from learnable_cam_plugin.analysis.written import write_report

from .made import EVIL, EVIL_FILE, NAMES, made_analysis, made_case, photograph_of


def test_it_says_every_number_and_has_one_colour_bar():
    case = made_case(1)
    with rc_context(figure._STYLE):
        drawn = figure._draw(case, NAMES, None)
    text = " ".join(found.get_text() for found in drawn.findobj(Text)).replace("\n", " ")
    for needed in (
        "true class: coach",
        "minibus rather than coach",
        f"{case.probabilities[case.predicted]:.2f}",
        "erase a random region",
        "erase what speaks for minibus",
        "filled with blur",
        "near-identical classes: overlap of the two regions 0.71 ≥ 0.50 holds",
        "fails",
        "rank correlation -0.20",
    ):
        assert needed in text, needed
    images = [image for part in drawn.subfigs for axis in part.axes for image in axis.get_images()]
    assert [image.get_clim() for image in images[1:]] == [
        (0, pytest.approx(images[1].get_clim()[1]))
    ] * 4


def test_something_in_front_is_outlined_and_its_trials_stand_beside_the_others():
    case = made_case(6)
    assert case.cause == "something in front"
    with rc_context(figure._STYLE):
        drawn = figure._draw(case, NAMES, None)
    text = " ".join(found.get_text() for found in drawn.findobj(Text))
    for needed in ("what may be in front", "a random one of its shape", "filled with surroundings"):
        assert needed in text, needed
    outlines = len(drawn.subfigs[0].axes[0].collections)
    assert (
        outlines == len(figure._draw(made_case(5), NAMES, None).subfigs[0].axes[0].collections) + 1
    )


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_it_is_written_whatever_the_names_are(tmp_path, suffix):
    names = (EVIL, "$unclosed", "\\frac{", *NAMES[3:])
    path = tmp_path / f"figure.{suffix}"
    write_figure(path, made_case(0, name=EVIL_FILE, names=names), names, dpi=40)
    assert path.stat().st_size > 1000
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_correct_image_and_a_map_of_nothing_are_drawn_too(tmp_path):
    case = made_case(0, correct=True)
    for region in case.regions.values():
        region[:] = False
    for found in vars(case.maps).values():
        found[:] = 0
    write_figure(tmp_path / "figure.png", case, NAMES, np.zeros((48, 64, 3), np.uint8), dpi=40)
    assert (tmp_path / "figure.png").is_file()


def test_a_report_has_them_if_asked(tmp_path):
    analysis = made_analysis(1, 0)
    write_report(analysis, tmp_path, photograph_of(analysis), figures=True)
    with Image.open(tmp_path / "cases" / "0001-0000_goose" / "figure.png") as image:
        assert image.width == 1440  # 7.2 inches, of 200 pixels each
    assert (
        '"figure": "cases/0001-0000_goose/figure.png"' in (tmp_path / "manifest.json").read_text()
    )
