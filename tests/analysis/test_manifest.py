"""manifest.json: what it holds, beside torch-cam's, and that the docs show it as it is."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from learnable_cam_plugin.analysis import Photo
from learnable_cam_plugin.analysis.manifest import SCHEMA_VERSION, case_record, rows, run_record
from learnable_cam_plugin.analysis.written import write_report
from learnable_cam_plugin.metrics import wilson

from .made import documented, made_analysis, photograph_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "analysis-manifest.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    analysis = made_analysis(4, 2)
    return write_report(analysis, tmp_path_factory.mktemp("report"), photograph_of(analysis)).parent


@pytest.fixture(scope="module")
def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def kind(value: object) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def test_no_name_in_the_table_is_a_formula():
    analysis = made_analysis(2, 0)
    names = ("=1+1", "\t=2", *analysis.class_names[2:])
    first = replace(analysis.cases[0], photo=Photo("-2+3.jpg", 0), predicted=1, other=0)
    table = list(rows(replace(analysis, cases=(first, *analysis.cases[1:]), class_names=names)))
    shown = dict(zip(table[0], table[1], strict=True))
    assert [shown[key] for key in ("name", "expected_name", "predicted_name", "other_name")] == [
        "'-2+3.jpg", "'=1+1", "'\t=2", "'=1+1",
    ]  # fmt: skip


def test_a_case_with_the_runs_fields_is_what_torch_cam_writes(folder, manifest, tmp_path):
    explain = pytest.importorskip("torchcam.explain", reason="needs torchcam 0.5").explain
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(4, 6),
    ).eval()  # fmt: skip
    images = torch.rand(1, 3, 48, 64)
    expected = (int(net(images).argmax()) + 1) % 6
    given = explain(net, images, expected_class_idx=expected, target_layer="0")
    given.save(tmp_path / "theirs", Image.new("RGB", (64, 48)))
    theirs = json.loads((tmp_path / "theirs" / "manifest.json").read_text())
    ours = {**manifest, **manifest["cases"][0]}
    assert theirs.keys() <= ours.keys()
    for key in theirs:
        assert kind(ours[key]) is kind(theirs[key]), key
    assert theirs["prediction"].keys() == ours["prediction"].keys() == ours["expected"].keys()
    assert ours["classes"].keys() == {
        str(ours[which]["class_idx"]) for which in ("prediction", "expected")
    }
    one, two = (next(iter(each["classes"].values())) for each in (theirs, ours))
    assert one.keys() - two.keys() == {"logit"}  # the analysis keeps probabilities alone
    assert one["artifacts"][0].keys() <= two["artifacts"][0].keys()


def test_every_file_that_is_named_is_there(folder, manifest):
    for case in manifest["cases"]:
        shown = [*case["classes"].values(), *case["contrasts"]]
        assert len(shown) == 4
        for artifact in (one for entry in shown for one in entry["artifacts"]):
            found = np.load(folder / artifact["map"], allow_pickle=False)
            assert (found.dtype, found.ndim) == (np.float32, 2)
            assert found.max() <= case["scale"]
            for picture in ("heatmap", "overlay"):
                with Image.open(folder / artifact[picture]) as image:
                    assert list(image.size) == case["image_size"]
        with Image.open(folder / case["input_image"]) as image:
            assert list(image.size) == case["image_size"]


def test_the_cases_are_whole(manifest):
    analysis = made_analysis(4, 2)
    assert manifest["schema_version"] == SCHEMA_VERSION
    assert len(manifest["cases"]) == 6
    case, record = analysis.cases[1], manifest["cases"][1]
    assert record["expected"] == {"class_idx": 2, "class_name": "coach"}
    assert record["other"] == {"class_idx": 2, "class_name": "coach", "rank": 2}
    assert len(record["trials"]) == len(case.trials)
    assert record["trials"][0] == {
        "region": "predicted",
        "action": "erase",
        "filling": "black",
        "predicted": case.trials[0].predicted,
        "other": 0.6,
        "top": {"class_idx": 2, "class_name": "coach"},
        "probability": 0.6,
    }
    assert record["verdict"]["cause"] == record["cause"] == case.cause
    assert manifest["cases"][5]["correct"]
    assert manifest["cases"][5]["verdict"] is None
    share, low, high = wilson(1, 4)
    counted = {"errors": 1, "of": 4, "share": share, "low": low, "high": high}
    assert manifest["causes"]["near-identical classes"] == pytest.approx(counted, abs=1e-4)


def test_a_number_that_is_none_is_null(manifest):
    assert manifest["settings"]["thresholds"] == {"overlap": 0.5, "likeness": None}
    case = made_analysis(1, 0).cases[0]
    case = replace(case, agreement=replace(case.agreement, correlation=float("nan")))
    record = case_record(replace(made_analysis(1, 0), cases=(case,)), 0)
    assert record["agreement"]["correlation"] is None


def test_the_docs_show_what_is_written():
    analysis = documented()
    shown = re.search(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert shown is not None
    written = {**run_record(analysis), "cases": [case_record(analysis, 0)]}
    assert json.loads(shown[1]) == written
