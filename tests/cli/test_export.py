"""`learnable-cam export`: a file that the runtime explains with."""

import json

import numpy as np
import pytest

from learnable_cam_plugin import LearnableCAM
from learnable_cam_plugin.data import read_photo

from . import networks
from .photographs import photographs, run, spoilt

pytest.importorskip("onnxscript", reason="needs the extra `export`")
pytest.importorskip("onnxruntime", reason="needs the extra `export`")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("export") / "in", 3)


def test_the_file_explains_as_the_classifier_does(photos, tmp_path):
    from learnable_cam_plugin.runtime import Explainer

    out = tmp_path / "small.onnx"
    done = run("export", photos, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert list(told["outputs"]) == ["logits", "saliency_map"]
    (found,) = Explainer(out).explain(photos / "000.jpg")
    loaded = networks.small()
    cam = LearnableCAM(loaded.model)
    heat = cam.saliency(loaded.transform(read_photo(photos / "000.jpg", 32))[None])[0].numpy()
    assert found.name == networks.NAMES[int(cam.outputs.argmax())]
    assert np.abs(found.heat - heat).max() < 0.05  # another resize
    assert f"nodes: {told['nodes']}\n" in run("info", out, model=None).stdout
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_one_class_rather_than_another(photos, tmp_path):
    from learnable_cam_plugin.runtime import Explainer

    out = tmp_path / "pairs.onnx"
    done = run("export", photos, "--contrast", "--classes", "--out", out)
    assert done.exit_code == 0, done.output
    (found,) = Explainer(out).explain(photos / "000.jpg", [networks.NAMES[1], 0])
    assert (found.index, found.against) == (1, 0)
    told = run("info", out, model=None).stdout
    assert "explains: given class rather than another\n" in told
    assert "classes: int64 (batch, 2)\n" in told


def test_what_goes_wrong_is_a_line_and_keeps_the_old_file(photos, tmp_path):
    out = tmp_path / "a.onnx"
    out.write_text("mine")
    bad = spoilt(photographs(tmp_path / "bad", 1) / "000.jpg")
    for arguments, message in (
        ([photos, "--out", tmp_path / "a.bin"], "must be named with .onnx at its end"),
        ([bad, "--out", out], "is not a readable image"),
        ([photos, "--top", 9, "--out", out], "top must be 1 to 5"),
        ([photos, "--top", 2, "--contrast", "--out", out], "it takes no top"),
        ([photos, "--attention", tmp_path / "gone", "--out", out], "no attention at"),
        ([photos, "--pixels", "--dynamic-size", "--out", out], "dynamic_size takes images"),
        ([photos, "--out", out / "b.onnx"], "cannot write"),
    ):
        refused = run("export", *arguments)
        assert refused.exit_code == 1, refused.output
        last = refused.stderr.splitlines()[-1]
        assert last.startswith("Error: ")
        assert message in last
        assert refused.stdout == ""
    assert out.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "bad"}


def test_the_extra_that_is_missing_is_named(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    refused = run("export", photos, "--out", tmp_path / "a.onnx")
    assert "onnxscript is missing: pip install 'learnable-cam-plugin[export]'" in refused.stderr
