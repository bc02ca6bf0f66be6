"""`learnable-cam explain` for any classifier: files of each photograph, and going on."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from learnable_cam_plugin import LearnableCAM
from learnable_cam_plugin.data import read_photo
from learnable_cam_plugin.training.folder import held_folder

from ..reliability.processes import python
from . import networks, photographs
from .photographs import ROOT, content, rows, run, run_limited, spoilt


@pytest.fixture
def photos(tmp_path):
    return photographs.photographs(tmp_path / "in", 6)


def test_each_photograph_becomes_files_of_its_own_and_a_line(photos, tmp_path):
    out = tmp_path / "out"
    done = run("explain", photos, "--write", "overlay,heatmap,npy", "--top", 2, "--out", out)
    assert done.exit_code == 0, done.output
    assert "6 explained: see" in done.output
    assert len(list(out.iterdir())) == 6 * 2 * 3 + 2
    loaded = networks.small()
    cam = LearnableCAM(loaded.model)
    for row in rows(out):
        x = loaded.transform(read_photo(row["photo"], 32))[None]
        expected = cam.saliency(x)[0].numpy()
        first, second = row["explanations"]
        assert first["class"] == int(cam.outputs.argmax())
        assert first["name"] == networks.NAMES[first["class"]]
        assert first["probability"] >= second["probability"] > 0
        heat = np.load(out / first["files"]["npy"])
        assert heat.dtype == np.float32
        assert np.abs(heat - expected).max() < 1e-5
        with Image.open(out / first["files"]["heatmap"]) as grey:
            assert (grey.mode, grey.size) == ("L", (32, 32))
            assert np.abs(np.asarray(grey) / 255 - heat).max() < 0.003
        with Image.open(out / second["files"]["overlay"]) as over:
            assert (over.mode, over.size) == ("RGB", (32, 32))


def test_of_a_single_score_its_class_is_explained_whatever_its_sign(photos, tmp_path):
    done = run("explain", photos, "--write", "npy", "--out", tmp_path / "out", model="single")
    assert done.exit_code == 0, done.output
    loaded = networks.single()
    cam = LearnableCAM(loaded.model)
    for row in rows(tmp_path / "out"):
        (one,) = row["explanations"]
        x = loaded.transform(read_photo(row["photo"], 32))[None]
        expected = cam.saliency(x, [ClassifierOutputTarget(0)])[0].numpy()
        score = float(cam.outputs)
        assert score < 0  # without a target the map would be of what speaks against it
        assert (one["class"], one["name"]) == (0, "defect")
        assert one["probability"] == pytest.approx(1 / (1 + math.exp(-score)), abs=1e-4)
        heat = np.load(tmp_path / "out" / one["files"]["npy"])
        assert np.abs(heat - expected).max() < 1e-5
    done = run("explain", photos, "--top", 2, "--out", tmp_path / "other", model="single")
    assert done.exit_code == 1
    assert "top must be 1 to 1" in done.output


def test_classes_are_asked_for_by_name_and_by_index(photos, tmp_path):
    twice = ("--class", "Dog", "--class", 1, "--class", "dog")
    done = run("explain", photos, *twice, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for row in rows(tmp_path / "out"):
        assert [one["name"] for one in row["explanations"]] == ["dog", "bee"]
        assert all(list(one["files"]) == ["overlay"] for one in row["explanations"])
    done = run("explain", photos, "--class", "Dog", "--top", 2, "--out", tmp_path / "other")
    assert done.exit_code == 2
    assert "--class explains those classes: leave out --top 2" in done.output


def test_of_names_alike_but_for_case_the_one_that_was_written_is_meant(photos, tmp_path):
    names, out = tmp_path / "names.txt", tmp_path / "out"
    names.write_text("\ufeffant\nCardigan\ncat\ncardigan\nelk", encoding="utf-8")
    given = ("--names", names, "--out", out)
    done = run("explain", photos, "--class", "cardigan", "--class", "ant", *given)
    assert done.exit_code == 0, done.output
    assert {tuple(one["class"] for one in row["explanations"]) for row in rows(out)} == {(3, 0)}
    names.write_text("ant\nbee\ncat\ncardigan\nelk", encoding="utf-8")
    done = run("explain", photos, "--class", "cardigan", "--class", "ant", *given)
    assert done.exit_code == 1
    assert "other settings (names:" in done.output
    names.write_text("ant\nbee\ncat\ncardigan\nCARDIGAN", encoding="utf-8")
    given = ("--names", names, "--out", tmp_path / "other")
    done = run("explain", photos, "--class", "Cardigan", *given)
    assert "several classes, give one's index: 3 ('cardigan'), 4 ('CARDIGAN')" in done.output


def test_another_model_of_the_same_name_is_not_answered_for_by_the_one_before(
    photos, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    assert run("explain", photos, "--out", out).exit_code == 0
    monkeypatch.setattr(
        networks, "small", lambda: replace(networks.other(), class_names=networks.NAMES)
    )
    done = run("explain", photos, "--out", out)
    assert done.exit_code == 1
    assert "other settings (tensors:" in done.output


def test_names_of_classes_come_from_a_file(photos, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join("abcde"))
    options = ["--names", tmp_path / "names.txt", "--write", "jsonl", "--out", tmp_path / "out"]
    assert run("explain", photos, *options, model="other").exit_code == 0
    assert all(row["explanations"][0]["name"] in "abcde" for row in rows(tmp_path / "out"))
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_photographs_of_one_name_do_not_overwrite_each_other(photos, tmp_path):
    (photos / "sub").mkdir()
    shutil.copy(photos / "000.jpg", photos / "sub" / "000.jpg")
    Image.open(photos / "000.jpg").save(photos / "000.png")
    more = photographs.photographs(tmp_path / "more", 1, seed=1)
    out = tmp_path / "out"
    assert run("explain", photos, more, "--write", "npy", "--out", out).exit_code == 0
    files = [one["files"]["npy"] for row in rows(out) for one in row["explanations"]]
    assert len(files) == len(set(files)) == 9
    assert all((out / file).is_file() for file in files)


def test_a_pattern_and_a_folder_that_holds_the_output(photos):
    done = run("explain", photos / "**" / "00[01].jpg", "--out", photos)
    assert done.exit_code == 0, done.output
    assert len(rows(photos)) == 2
    assert run("explain", photos, "--out", photos).exit_code == 0
    assert len(rows(photos)) == 6  # not what was written


def test_what_is_done_is_not_done_again(photos, tmp_path):
    out = tmp_path / "out"
    assert run("explain", photos, "--out", out).exit_code == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    again = run("explain", photos, "--out", out)
    assert again.exit_code == 0
    assert "6 explained, 6 of them before" in again.output
    assert before == {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    # a photograph that changed, a file that is gone, a line that was cut off
    shutil.copy(photos / "005.jpg", photos / "000.jpg")
    next(out.glob("001.*")).unlink()
    text = (out / "explanations.jsonl").read_text()
    (out / "explanations.jsonl").write_text(text[:-20])
    again = run("explain", photos, "--out", out)
    assert "6 explained, 3 of them before" in again.output
    assert {Path(row["photo"]).name for row in rows(out)} == {f"{i:03d}.jpg" for i in range(6)}
    assert {*before} == {path.name for path in out.glob("*.png")}


def test_a_photograph_is_the_same_from_another_folder(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert run("explain", photos, "--out", out).exit_code == 0
    monkeypatch.chdir(tmp_path)
    again = run("explain", "in", "--out", "out")
    assert "6 explained, 6 of them before" in again.output


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux only")
def test_a_file_name_that_is_no_text_is_explained_and_known_again(tmp_path):
    photos, out = photographs.photographs(tmp_path / "in", 1), tmp_path / "out"
    os.rename(photos / "000.jpg", os.fsencode(photos) + b"/caf\xe9.jpg")
    done = run("explain", photos, "--out", out)
    assert done.exit_code == 0, done.output
    assert "caf\N{REPLACEMENT CHARACTER}.jpg: " in done.output
    assert "1 of them before" in run("explain", photos, "--out", out).output
    assert run("explain", photos, "--out", out, "--json").exit_code == 0


def test_two_runs_do_not_write_to_one_folder_at_once(photos, tmp_path):
    out = tmp_path / "out"
    with held_folder(out):
        refused = run("explain", photos, "--out", out)
    assert refused.exit_code == 1
    assert f"Error: another run writes to {out}: wait for its end" in refused.stderr
    assert run("explain", photos, "--out", out).exit_code == 0


def test_explanations_of_other_settings_are_left_as_they_are(photos, tmp_path):
    out = tmp_path / "out"
    assert run("explain", photos, "--out", out).exit_code == 0
    before = content(out)
    for options in (["--top", 2], ["--write", "npy"]):
        refused = run("explain", photos, "--out", out, *options)
        assert refused.exit_code == 1
        assert " then, " in refused.output
        assert "choose another --out" in refused.output
    assert (
        "model: tests.cli.networks:small then"
        in run("explain", photos, "--out", out, model="other").output
    )
    assert content(out) == before


def test_those_that_cannot_be_read_are_named_and_the_others_explained(tmp_path):
    photos, out = photographs.photographs(tmp_path / "in", 20), tmp_path / "out"
    bad = [spoilt(photos / f"{i:03d}.jpg") for i in (0, 7, 19)]
    done = run("explain", photos, "--out", out)
    assert done.exit_code == 1
    assert len(rows(out)) == 17
    assert all(f"left out: {path} is not a readable image" in done.stderr for path in bad)
    assert done.stderr.splitlines()[-1] == "Error: photographs that could not be read: 3"
    told = [
        json.loads(one)
        for one in run("explain", photos, "--out", out, "--json").stdout.split("\n")[:-1]
    ]
    assert sum("explanations" in one for one in told) == 17
    assert sum("error" in one for one in told) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there")
def test_a_link_that_leads_nowhere_is_a_photograph_that_cannot_be_read(tmp_path):
    photos = photographs.photographs(tmp_path / "in", 2)
    (photos / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (photos / "folder.jpg").mkdir()
    done = run("explain", photos, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert len(rows(tmp_path / "out")) == 2
    assert "gone.jpg" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: photographs that could not be read: 1"


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_killed_half_way_and_run_again_it_finishes_the_rest(tmp_path):
    """Beside a head that is linearised on the first photographs: the same ones both times."""
    photos, out = photographs.photographs(tmp_path / "in", 120), tmp_path / "out"
    options = ["--write", "overlay,npy", "--batch-size", "4"]
    command = [sys.executable, "-m", "learnable_cam_plugin", "explain", photos, "--out", out]
    command += ["--model", f"{networks.HERE}:flat", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = out / "explanations.jsonl"
    while not lines.exists() or lines.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    done = lines.read_bytes().count(b"\n")
    assert 3 <= done < 120
    again = run("explain", photos, "--out", out, *options, model="flat")
    assert again.exit_code == 0, again.output
    assert f"120 explained, {done} of them before" in again.output
    whole = tmp_path / "whole"
    assert run("explain", photos, "--out", whole, *options, model="flat").exit_code == 0
    assert rows(out) == rows(whole)
    left = {name: bytes for name, bytes in content(out).items() if not name.startswith(".")}
    assert left.keys() == content(whole).keys()
    for name in left:
        if name.endswith(".npy"):
            assert np.abs(np.load(out / name) - np.load(whole / name)).max() < 1e-4


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_ctrl_c_is_a_line_and_leaves_whole_files(tmp_path):
    photos, out = photographs.photographs(tmp_path / "in", 200), tmp_path / "out"
    command = [sys.executable, "-m", "learnable_cam_plugin", "explain", photos, "--out", out]
    command += ["--model", f"{networks.HERE}:small", "--write", "npy", "--batch-size", "4"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    lines = out / "explanations.jsonl"
    while not lines.exists() or lines.read_bytes().count(b"\n") < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.splitlines()[-1] == (
        f"Error: interrupted; what was made before is in {out}; run again to finish the rest"
    )
    done, left = rows(out), content(out)
    assert 3 <= len(done) < 200
    for one in (one for row in done for one in row["explanations"]):
        assert np.load(out / one["files"]["npy"]).shape == (32, 32)
    others = [name for name in left if not name.endswith(".npy") and not name.startswith(".")]
    assert sorted(others) == ["explanations.jsonl", "settings.json"]
    assert len(left) <= len(done) + 1 + 3  # one whose line was not written, and a lock


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to set")
@pytest.mark.parametrize(("kind", "limit"), [("npy", 3000), ("overlay", 900), ("jsonl", 700)])
def test_a_full_disk_is_a_line_and_nothing_half_written(photos, tmp_path, kind, limit):
    out = tmp_path / "out"
    full = run_limited(limit, "explain", photos, "--write", kind, "--out", out)
    assert full.returncode == 1, full.stderr
    last = full.stderr.splitlines()[-1]
    assert last.startswith("Error: [Errno ")
    assert "cannot write" in last
    assert str(out) in last
    assert "Traceback" not in full.stdout + full.stderr
    assert {path.name for path in out.iterdir()} == {"explanations.jsonl", "settings.json"}
    assert len(rows(out)) < 6
    again = run("explain", photos, "--write", kind, "--out", out)
    assert again.exit_code == 0, again.output
    assert len(rows(out)) == 6


def test_memory_does_not_grow_with_the_photographs(tmp_path):
    """200 of them against 20; `python -m tests.cli.scale` tries 2,000 against 200."""
    photographs.photographs(tmp_path / "in", 200)
    code = """
import sys
from pathlib import Path
from click.testing import CliRunner
from learnable_cam_plugin.cli import main
folder, out = map(Path, sys.argv[1:])
for which in ("00*.jpg", "01*.jpg", "*.jpg"):
    arguments = [str(folder / which), "--out", str(out / which[:2])]
    arguments += ["--model", "tests.cli.networks:small", "--write", "overlay,npy"]
    assert CliRunner().invoke(main, ["explain", *arguments]).exit_code == 0
    print(peak())
"""
    _, before, after = map(float, python(code, tmp_path / "in", tmp_path / "out").split())
    assert after - before < 20


def test_probabilities_of_a_model_that_ends_in_a_softmax_are_its_own(photos, tmp_path):
    for name in ("small", "ended"):
        done = run(
            "explain", photos, "--model", f"{networks.HERE}:{name}", "--out", tmp_path / name
        )
        assert done.exit_code == 0, done.output
    for one, other in zip(rows(tmp_path / "small"), rows(tmp_path / "ended"), strict=True):
        (first,), (second,) = one["explanations"], other["explanations"]
        assert first["class"] == second["class"]
        assert first["probability"] == pytest.approx(second["probability"], abs=1e-5)


def test_a_run_goes_on_with_batches_of_another_size(photos, tmp_path):
    for size, said in ((4, "6 explained"), (3, "6 explained, 6 of them before")):
        done = run("explain", photos, "--batch-size", size, "--out", tmp_path / "out")
        assert done.exit_code == 0, done.output
        assert f"{said}: see" in done.output
