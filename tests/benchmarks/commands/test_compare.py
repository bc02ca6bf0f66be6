"""The command from end to end: drawn shapes, and a made-up miniature ImageNet."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks.commands.compare import main
from benchmarks.maps import in_batches
from benchmarks.sources import IMAGENET, load_photos
from learnable_cam_plugin import checkpoint
from learnable_cam_plugin.metrics import wilson

from ..small import smaller

METHODS = "LearnableCAM,Grad-CAM,RISE,random map"


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def drawn(shapes, tmp_path_factory):
    """(protocol, finished results folder) of drawn shapes."""
    folder = tmp_path_factory.mktemp("drawn")
    protocol = smaller(
        "synthetic",
        folder / "small.yaml",
        count=14,
        training={"epochs": 1, "batch_size": 64},
    )
    out = folder / "out"
    checkpoint.save(out / "classifier.safetensors", shapes[0].state_dict(), {})
    result = run(protocol, "--out", out, "--methods", METHODS)
    assert result.exit_code == 0, result.output
    return protocol, out


def test_it_leaves_results_report_and_figures(drawn):
    _, out = drawn
    results = json.loads((out / "results.json").read_text())
    assert ",".join(row["method"] for row in results["methods"]) == METHODS
    learnable, gradcam, rise, floor = results["methods"]
    assert (learnable["forward"], learnable["backward"]) == (1, 0)
    assert (gradcam["forward"], gradcam["backward"]) == (1, 1)
    assert (rise["forward"], floor["forward"]) == (25, 0)
    assert rise["all"] == {}  # slow: on the common images only
    assert learnable["all"]["AD 100%"]["n"] == 14
    for row in results["methods"]:
        assert row["common"].keys() == {metric["key"] for metric in results["metrics"]}
        assert row["common"]["AD 100%"]["n"] == 3
        assert row["common"]["coherency"]["n"] == row["common"]["grid pointing"]["n"] == 2
        for value in row["common"].values():
            assert value["low"] <= value["mean"] <= value["high"]
    assert {"versions", "hardware", "seed", "command", "notes", "created"} <= results.keys()
    for name in (
        "results.csv",
        "results.md",
        "report.html",
        "quality-against-passes.png",
        "gallery.png",
    ):
        assert (out / name).stat().st_size > 500, name
    assert "RISE" in (out / "results.csv").read_text()


def test_a_second_run_does_only_what_is_missing(drawn, tmp_path):
    protocol, out = drawn
    files = {path.name: path for path in (out / "methods").iterdir()}
    before = {name: (path.stat().st_mtime_ns, path.read_text()) for name, path in files.items()}
    files["grad-cam.json"].unlink()
    command = [sys.executable, "-m", "benchmarks", "compare", protocol, "--out", out]
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    command += ["--methods", METHODS]
    subprocess.run(command, check=True, cwd=tmp_path, env=path)  # from anywhere
    results = json.loads((out / "results.json").read_text())
    assert f"python -m benchmarks compare {protocol}" in results["command"]
    for name, path in files.items():
        time, text = before[name]
        scores = json.loads(path.read_text())["scores"]
        assert scores == json.loads(text)["scores"], name  # seeded: the same figures
        assert (path.stat().st_mtime_ns == time) == (name != "grad-cam.json")


def test_other_images_are_refused_and_nothing_is_lost(drawn):
    protocol, out = drawn
    before = (out / "results.json").read_bytes()
    result = run(protocol, "--out", out, "--methods", METHODS, "--limit", 10)
    assert result.exit_code == 1
    assert "made with other settings" in result.output
    assert "images: 14 then, 10 now" in result.output
    assert (out / "results.json").read_bytes() == before


def test_an_interrupted_method_goes_on_where_it_was(tmp_path, images, monkeypatch):
    monkeypatch.setattr("benchmarks.maps.SAVE_EVERY", 0.0)
    seen = []

    def cam(batch, _classes):
        if len(seen) == 2:
            seen.append("stopped")
            raise KeyboardInterrupt
        seen.append(float(batch.sum()))
        return batch.mean(1)

    classes, keep = torch.zeros(4), tmp_path / "maps" / "images.npy"
    with pytest.raises(KeyboardInterrupt):
        in_batches(cam, images, classes, 1, "", keep)
    maps = in_batches(cam, images, classes, 1, "", keep)
    assert torch.equal(maps, images.mean(1))
    assert [s for s in seen if s != "stopped"] == [float(one.sum()) for one in images]


@pytest.mark.parametrize("maps", [255 * torch.rand(4, 20, 24), torch.rand(4, 20, 24) - 0.5])
def test_a_peers_maps_must_be_scaled(images, maps):
    """Clamped, such a map would be nearly all ones, and score well."""
    with pytest.raises(ValueError, match="scale each map with min_max first"):
        in_batches(lambda *_: maps, images, torch.zeros(4), 4, "", None)
    near = torch.rand(4, 20, 24) * (1 + 1e-6)
    assert in_batches(lambda *_: near, images, torch.zeros(4), 4, "", None).max() <= 1


def test_a_peer_that_fails_is_left_out_and_named(drawn, tmp_path, monkeypatch):
    protocol, out = drawn
    shutil.copytree(out, tmp_path / "out")
    (tmp_path / "out/methods/grad-cam.json").unlink()

    def broken(*_):
        raise IndexError("boom")

    monkeypatch.setattr("benchmarks.commands.compare.measure", broken)
    result = run(protocol, "--out", tmp_path / "out", "--methods", METHODS)
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert "Grad-CAM is left out: IndexError: boom" in results["notes"]
    assert "RISE" in {row["method"] for row in results["methods"]}


def test_a_share_of_none_may_be_a_few(drawn):
    results = json.loads((drawn[1] / "results.json").read_text())
    for row in results["methods"]:
        found = row["common"]["IC 15%"]
        low, high = (100 * end for end in wilson(round(found["mean"] * 3 / 100), 3)[1:])
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-2)
        assert found["low"] < found["high"]


def test_of_other_code_or_attention_results_do_not_mix(drawn, tmp_path, monkeypatch):
    protocol, out = drawn
    shutil.copytree(out, tmp_path / "out")
    monkeypatch.setattr("benchmarks.report.summary.CURVE_STEPS", 2)
    result = run(protocol, "--out", tmp_path / "out", "--methods", METHODS)
    assert result.exit_code == 1
    assert "steps of curves" in result.output


def test_bad_arguments_say_what_to_do(tmp_path):
    for arguments, message in (
        (["nothing"], "no protocol 'nothing'"),
        (["photos"], "needs --data"),
        (["photos", "--data", tmp_path / "none"], "no folder of photographs"),
        (["synthetic", "--methods", "Magic"], "no method"),
    ):
        result = run(*arguments, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert message in result.output
    assert not (tmp_path / "out" / "methods").exists()


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A made-up miniature ImageNet: four classes of two images, as an ImageFolder."""
    root = tmp_path_factory.mktemp("imagenet") / "val"
    for i in range(8):
        path = root / f"n0000000{i // 2}" / f"ILSVRC2012_val_0000000{i}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.effect_noise((260, 240), 60 + 20 * i)
        Image.merge("RGB", [image, image.rotate(90), image.rotate(180)]).save(path, "JPEG")
    return root


@pytest.mark.parametrize(
    "networks", [["resnet50"], pytest.param(["vgg16", "resnet50"], marks=pytest.mark.long)]
)
def test_miniature_imagenet_with_the_papers_networks(imagenet, tmp_path, networks):
    """The paper's protocol with seeded weights: the day the data is there, only paths change."""
    names = tmp_path / "list.txt"
    names.write_text("".join(f"ILSVRC2012_val_0000000{i}.JPEG {i}\n" for i in (6, 1, 3, 4)))
    content = {"common": 1, "few": 1, "mosaics": 1, "training": {"epochs": 1, "batch_size": 2}}
    protocol = smaller("imagenet", tmp_path / "imagenet.yaml", only=networks, **content)
    methods = "LearnableCAM,Grad-CAM,random map"
    paths = ["--data", imagenet, "--list", names, "--train", imagenet]
    result = run(
        protocol, "--out", tmp_path / "out", *paths, "--methods", methods, "--seeded-weights"
    )
    assert result.exit_code == 0, result.output
    for network in networks:
        folder = tmp_path / "out" if len(networks) == 1 else tmp_path / "out" / network
        results = json.loads((folder / "results.json").read_text())
        assert results["network"] == network
        assert results["data"]["images"] == 4
        assert ",".join(row["method"] for row in results["methods"]) == methods
        assert results["gallery"]["images"][0]["title"].split("/")[1].startswith("ILSVRC2012_val")


@pytest.mark.parametrize("layout", ["ImageFolder", "flat"])
def test_listed_images_are_found_in_both_layouts_in_the_lists_order(imagenet, tmp_path, layout):
    data = imagenet
    if layout == "flat":
        data = tmp_path / "flat"
        data.mkdir()
        for path in imagenet.rglob("*.JPEG"):
            shutil.copy(path, data)
    names = tmp_path / "list.txt"
    names.write_text("".join(f"ILSVRC2012_val_0000000{i}.JPEG {i}\n" for i in (6, 1, 3)))
    images, titles = load_photos(data, IMAGENET, names, limit=None)
    assert [title[-1] for title in titles] == ["6", "1", "3"]
    assert images.shape == (3, 3, 224, 224)
    _, some = load_photos(data, IMAGENET, None, limit=4)
    assert [title[-1] for title in some] == ["0", "2", "4", "6"]
    names.write_text("ILSVRC2012_val_00000099.JPEG\n")
    with pytest.raises(FileNotFoundError, match="1 of the 1 images"):
        load_photos(data, IMAGENET, names, limit=None)


def test_files_of_one_name_are_told_apart_by_their_path(imagenet, tmp_path):
    for i, path in enumerate(sorted(imagenet.rglob("*.JPEG"))[:2]):
        (tmp_path / f"class{i}").mkdir()
        shutil.copy(path, tmp_path / f"class{i}" / "same.JPEG")
    names = tmp_path / "list.txt"
    names.write_text("same.JPEG\n")
    with pytest.raises(ValueError, match="has 2 of that name"):
        load_photos(tmp_path, IMAGENET, names, limit=None)
    names.write_text("class1/same.JPEG\n")
    assert load_photos(tmp_path, IMAGENET, names, limit=None)[1] == ["class1/same"]
