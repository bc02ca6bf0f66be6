"""`learnable-cam info` and `doctor`: what a file is, and whether things fit."""

import json

import pytest
import torch

from learnable_cam_plugin import calibrate
from learnable_cam_plugin.attention import shipped_attention
from learnable_cam_plugin.attention.origin import Origin

from ..conftest import tiny_network
from .photographs import run


@pytest.fixture(scope="module")
def attention(tmp_path_factory):
    """Beside the small classifier; its origin says so."""
    path = tmp_path_factory.mktemp("attention") / "mine.safetensors"
    model = tiny_network()
    made = calibrate(model, ["4"], torch.rand(4, 3, 32, 32))
    made.origin = Origin.of(model, recipe={"name": "by hand", "epochs": 3}, input_size=(3, 32, 32))
    made.save(path)
    return path


def checks(done):
    return {check["name"]: check for check in json.loads(done.stdout)}


def test_info_says_what_an_attention_is(attention):
    done = run("info", attention, model=None)
    assert done.exit_code == 0, done.output
    for part in ("mechanism: LCAMAttention", "layers:\n  4: 8", "classes: 5", "epochs: 3"):
        assert part in done.stdout
    told = json.loads(run("info", attention, "--json", model=None).stdout)
    assert told["layers"] == {"4": 8}
    assert told["recipe"] == {"name": "by hand", "epochs": 3}
    assert told["file"] == str(attention)


def test_info_of_one_that_belongs_to_no_classifier(tmp_path):
    made = calibrate(tiny_network(), ["4"], torch.rand(4, 3, 32, 32))
    made.origin = None
    made.save(tmp_path / "any.safetensors")
    told = run("info", tmp_path / "any.safetensors", model=None).stdout
    assert "made for: not recorded: it goes with any classifier that fits" in told
    assert shipped_attention().origin is not None or "made for" in told


def test_info_of_an_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
    value = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("Relu", ["images"], ["logits"])
    graph = onnx.helper.make_graph(
        [node], "g", [value("images", kind, ["N", 3])], [value("logits", kind, ["N", 3])]
    )
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {"classes": '["ant", "bee"]', "made": "by hand"})
    onnx.save(model, tmp_path / "m.onnx")
    told = json.loads(run("info", tmp_path / "m.onnx", "--json", model=None).stdout)
    assert told["inputs"] == {"images": "float (N, 3)"}
    assert told["outputs"] == {"logits": "float (N, 3)"}
    assert told["metadata"] == {"classes": ["ant", "bee"], "made": "by hand"}
    (tmp_path / "m.onnx").write_bytes((tmp_path / "m.onnx").read_bytes()[:40])
    cut = run("info", tmp_path / "m.onnx", model=None)
    assert cut.exit_code == 1
    assert "is no whole ONNX file" in cut.stderr
    assert len(cut.stderr.splitlines()) == 1


def test_info_of_an_onnx_file_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    done = run("info", tmp_path / "m.onnx", model=None)
    assert "Error: onnx is missing: pip install 'learnable-cam-plugin[export]'" in done.stderr


def test_doctor_without_a_model_looks_at_the_installation():
    done = run("doctor", model=None)
    assert done.exit_code == 0, done.output
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ok", "versions:"],
        ["ok", "device:"],
    ]
    assert f"torch {torch.__version__}".split("+")[0] in done.stdout


def test_doctor_finds_what_fits(attention):
    done = run("doctor", "--attention", attention, "--json")
    assert done.exit_code == 0, done.output
    found = checks(done)
    assert all(check["ok"] for check in found.values())
    assert found["layers"]["found"] == "4"
    assert "images of 32 x 32" in found["model"]["found"]
    assert found["attention fits"]["found"] == "maps of 32 x 32 pixels"


def test_doctor_says_what_does_not_fit_and_what_to_do(attention, tmp_path):
    done = run("doctor", "--attention", attention, model="other")
    assert done.exit_code == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert line.startswith("FAIL  attention fits: the model is another Sequential")
    assert "or train one with learnable-cam train" in line
    assert done.stderr == "Error: not well: attention fits\n"
    done = run("doctor", "--attention", tmp_path / "gone", "--json", model="without_maps")
    assert done.exit_code == 1
    found = checks(done)
    assert {n for n, check in found.items() if not check["ok"]} == {
        *("attention", "layers", "explains")
    }
    assert "nothing to map" in found["layers"]["found"]
    done = run("doctor", "--json", model="torchvision:resnet81")
    assert "did you mean 'resnet18'" in checks(done)["model"]["found"]
