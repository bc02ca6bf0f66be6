"""What is asked once, and of which images each metric is."""

import dataclasses

import pytest
import torch

from benchmarks.commands.compare import measure
from benchmarks.maps import Maps
from benchmarks.methods import METHODS
from benchmarks.passes import counted
from benchmarks.report.schema import read_methods
from benchmarks.scoring import score_maps, subsets
from learnable_cam_plugin.metrics import METRICS, Metric


@pytest.fixture
def maps():
    """Of all four images, of two of them again, and of no mosaics."""
    found = torch.rand(4, 20, 24, generator=torch.Generator().manual_seed(2))
    again, none = torch.tensor([3, 1]), torch.zeros(0, dtype=torch.long)
    return Maps(torch.arange(4), found, again, found[again], none, found[:0])


def test_each_metric_is_of_its_images(bed, maps):
    bed = dataclasses.replace(bed, common=torch.tensor([3, 0, 1]))
    scores = score_maps(subsets(bed, maps), "")
    assert scores["AD 100%"].index == [0, 1, 2, 3]
    assert scores["insertion"].index == scores["AD 15% (blur)"].index == [3, 0, 1]
    assert scores["coherency"].index == [3, 1]
    assert scores["coherency"].values == [100.0, 100.0]
    assert not {"grid pointing", "energy inside", "pointing game"} & scores.keys()


def test_masked_probabilities_are_asked_once(bed, maps):
    parts = subsets(bed, maps)
    with counted(bed.judge) as passes:
        for key in ("AD 100%", "IC 50%", "ADCC"):
            METRICS[key].compute(parts[METRICS[key].images].seen)
        parts["all"].seen.of(torch.tensor([2])).masked()  # as the gallery does
    assert passes.forward == 4 * (1 + 3)  # each image, and at each share kept


def test_a_metric_gives_one_value_an_image(bed, maps, monkeypatch):
    wrong = Metric("wrong", "", "lower", "", lambda explained: explained.maps.mean())
    monkeypatch.setitem(METRICS, "wrong", wrong)
    with pytest.raises(ValueError, match=r"'wrong' gives \(\) for 4 images"):
        score_maps(subsets(bed, maps), "")


def test_a_method_is_opened_once_and_its_passes_are_of_one_image(bed, tmp_path):
    built = []

    def build(bed, attention):
        built.append(METHODS["Grad-CAM"].build(bed, attention))
        return built[-1]

    measure(bed, dataclasses.replace(METHODS["Grad-CAM"], build=build), None, tmp_path)
    assert len(built) == 1
    (found,) = read_methods(tmp_path).values()
    assert (found["forward"], found["backward"]) == (1, 1)
    assert [len(found["gallery"]), found["scores"]["AD 100%"]["index"]] == [4, [0, 1, 2, 3]]
