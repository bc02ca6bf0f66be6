"""`learnable-cam train`: what it leaves, how it goes on, what it refuses."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from learnable_cam_plugin import load_attention
from learnable_cam_plugin.data import photos as reading

from .photographs import content, photographs, rows, run, run_limited, spoilt

FAST = ("--epochs", 2, "--batch-size", 4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("train") / "in", 10)


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "out"
    done = run("train", photos, *FAST, "--out", out)
    assert done.exit_code == 0, done.output
    return out, done.output


def tensors(out):
    return {k: v.numpy() for k, v in load_attention(out / "attention").state_dict().items()}


def test_it_leaves_the_attention_its_history_and_a_page_of_pictures(trained):
    out, told = trained
    attention = load_attention(out / "attention")
    assert attention.origin.recipe["epochs"] == 2
    with open(out / "history.csv") as handle:
        assert [row["epoch"] for row in csv.DictReader(handle)] == ["1", "2"]
    with Image.open(out / "pictures.png") as picture:
        assert picture.width > 300
    assert (out / "history.png").exists()
    assert f"use it with --attention {out / 'attention'}" in told


def test_what_was_trained_explains(trained, photos, tmp_path):
    done = run("explain", photos, "--attention", trained[0], "--write", "npy", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    maps = [np.load(path) for path in tmp_path.glob("*.npy")]
    assert len(maps) == 10 == len(rows(tmp_path))
    assert all(0 <= heat.min() < heat.max() <= 1 for heat in maps)


@pytest.mark.parametrize("at", [18, 24], ids=["in the first epoch", "in the second"])
def test_ctrl_c_is_a_line_and_run_again_it_ends_as_if_there_had_been_none(
    trained, photos, tmp_path, monkeypatch, at
):
    out, reads = tmp_path / "out", []
    read = reading.read_photo

    def interrupting(*given):
        reads.append(given)
        if len(reads) == at:
            raise KeyboardInterrupt  # as Python does of the signal
        return read(*given)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read_photo", interrupting)
        broken = run("train", photos, *FAST, "--out", out)
    assert broken.exit_code == 1
    saved = (out / "training.safetensors").exists()
    assert saved == (at == 24)
    told = f"the training up to its last saved step is in {out}: run again to continue"
    if not saved:
        told = "nothing was saved yet, as it is every 50 steps and after each epoch: run it again"
    assert broken.stderr.splitlines()[-1] == f"Error: interrupted; {told}"
    assert not (out / "attention").exists()
    again = run("train", photos, *FAST, "--out", out, "--json")
    assert again.exit_code == 0, again.output
    told = json.loads(again.stdout)
    assert [row["epoch"] for row in told["history"]] == [1, 2]
    expected = tensors(trained[0])
    assert all(np.array_equal(value, expected[name]) for name, value in tensors(out).items())


def test_other_settings_in_the_same_folder_are_refused(trained, photos):
    before = content(trained[0])
    refused = run("train", photos, *FAST, "--seed", 1, "--out", trained[0])
    assert refused.exit_code == 1
    last = refused.stderr.splitlines()[-1]
    assert "seed: 0 then, 1 now" in last
    assert f"Choose another --out, or remove {trained[0]}" in last
    assert content(trained[0]) == before


def test_damaged_photographs_are_named_before_it_starts_or_left_out(tmp_path):
    photos, out = photographs(tmp_path / "in", 8), tmp_path / "out"
    bad = [spoilt(photos / name) for name in ("002.jpg", "005.jpg")]
    refused = run("train", photos, *FAST, "--out", out)
    assert refused.exit_code == 1
    (last,) = refused.stderr.splitlines()
    assert last.startswith("Error: 2 of 8 photographs cannot be read: ")
    assert all(str(path) in last for path in bad)
    assert "--skip-unreadable" in last
    assert not out.exists()
    done = run("train", photos, *FAST, "--out", out, "--skip-unreadable", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["images"] == 6
    assert len(told["left out"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to set")
def test_a_full_disk_is_a_line_and_nothing_half_written(photos, tmp_path):
    out = tmp_path / "out"
    full = run_limited(20_000, "train", photos, *FAST, "--out", out)
    assert full.returncode == 1, full.stderr
    last = full.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert "cannot write" in last
    assert str(out) in last
    assert not out.exists() or list(out.iterdir()) == []


def test_the_papers_recipe_a_start_and_a_validation(photos, trained, tmp_path):
    options = ["--recipe", "l-cam-img", "--start", "random", "--layer", "4", "--epochs", 1]
    done = run("train", photos, *options, "--validate", photos, "--out", tmp_path / "a", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["layers"] == ["4"]
    assert "val_average_drop" in told["history"][-1]
    # on from what was trained
    done = run("train", photos, "--epochs", 1, "--start", trained[0], "--out", tmp_path / "b")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "l-cam"], "there is no recipe 'l-cam'; there are"),
        (["--start", "zero"], "no attention at 'zero'"),
        (["--start", "random"], "has no random start"),
        (["--layer", "nowhere"], "'nowhere' is not a module of Sequential"),
        (["--validate", "gone"], "no folder of photographs at gone"),
        (["--weights", "gone.pth"], "no weights at 'gone.pth'"),
    ],
)
def test_a_setting_that_is_none_is_a_line(photos, tmp_path, options, message):
    refused = run("train", photos, *options, "--out", tmp_path / "out")
    assert refused.exit_code == 1
    (last,) = refused.stderr.splitlines()
    assert message in last
    assert not (tmp_path / "out").exists()
