"""The commands: help at once, every refusal in one line, any number of photographs."""

import ast
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import learnable_cam_plugin
from learnable_cam_plugin.cli import main
from learnable_cam_plugin.cli.quickstart import quickstart

from .processes import python

COMMAND = [sys.executable, "-m", "learnable_cam_plugin"]


def refused(*arguments, code=1):
    """The line that a command ends with, after nothing but click's usage."""
    run = CliRunner().invoke(main, [str(a) for a in arguments])
    assert run.exit_code == code, run.output
    assert isinstance(run.exception, SystemExit)  # not the error itself: a traceback
    *before, last = run.output.strip().split("\n")
    assert all(line.startswith(("Usage: ", "Try ", "left out: ")) or not line for line in before)
    assert last.startswith("Error: ")
    return last


# the package, lazily


@pytest.mark.parametrize("arguments", ["--help", "explain --help", "quickstart --help"])
def test_help_loads_neither_torch_nor_matplotlib(arguments):
    code = """
import sys
from learnable_cam_plugin.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0
assert not {"torch", "torchvision", "matplotlib", "numpy", "captum"} & sys.modules.keys()
print(peak())
"""
    assert float(python(code, *arguments.split()).split("\n")[-2]) < 100


def test_every_public_name_is_there_and_the_star_brings_no_other():
    stub = ast.parse(Path(learnable_cam_plugin.__file__).with_suffix(".pyi").read_text())
    (stated,) = [node.value for node in stub.body if isinstance(node, ast.Assign)]
    assert sorted(learnable_cam_plugin.__all__) == sorted(ast.literal_eval(stated))
    names = {}
    exec("from learnable_cam_plugin import *", names)
    assert names.keys() - {"__builtins__"} == set(learnable_cam_plugin.__all__)
    assert set(learnable_cam_plugin.__all__) <= set(dir(learnable_cam_plugin))
    assert all(names[n] is getattr(learnable_cam_plugin, n) for n in learnable_cam_plugin.__all__)
    with pytest.raises(AttributeError, match="LearnableCam"):
        _ = learnable_cam_plugin.LearnableCam


def test_what_is_asked_for_first_is_complete():
    """Recipes registered, sub-packages as attributes, instances to be pickled."""
    code = """
import learnable_cam_plugin
from learnable_cam_plugin import RECIPES
assert {"every-threshold", "l-cam-img", "l-cam-fm"} <= RECIPES.keys()
for name in ("attention", "cam", "classifier", "comparison", "data", "metrics", "pretrained"):
    assert getattr(learnable_cam_plugin, name).__name__ == f"learnable_cam_plugin.{name}"
"""
    python(code)
    given = learnable_cam_plugin.Normalization([0.5], [0.25])
    assert pickle.loads(pickle.dumps(given)) == given


# what is out of range, missing or in the way


@pytest.mark.parametrize(
    "arguments",
    [
        "explain --top 0",
        "explain --top -1",
        "explain --top 5000",
        "explain --top many",
        "explain --out file",
        "quickstart --out file",
        "quickstart --seed -1",
        "quickstart --seed 99999999999",
    ],
)
def test_an_option_out_of_range_is_one_line(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert "Invalid value for '--" in refused(*arguments.split(), code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["explain", "quickstart"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, command):
    (tmp_path / "file").write_text("mine")
    assert "Not a directory" in refused(command, "--out", tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"train_images": 0},
        {"train_images": 31},
        {"test_images": 2},
        {"epochs": 0},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused_before_anything_is_drawn(tmp_path, capsys, wrong):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} must be at least \d+, got"):
        quickstart(tmp_path / "out", **wrong)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("explain", "efficientnet_lite_pytorch", "photos"),
        ("quickstart --train", "accelerate", "train"),
    ],
)
def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch, capfd, command, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    line = refused(*command.split(), "--out", tmp_path / "out")
    assert f"{package} is missing: pip install 'learnable-cam-plugin[{extra}]'" in line


def test_no_photographs_at_all_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("learnable_cam_plugin.cli.photographs._SHIPPED", {})
    assert "name some, or pip install" in refused("explain", "--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "no photograph (" in refused("explain", tmp_path / "empty", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def photographs(folder, count):
    folder.mkdir()
    for i in range(count):
        Image.effect_noise((300, 260), 80).convert("RGB").save(folder / f"{i:03d}.jpg")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to set")
def test_a_full_disk_is_one_line_and_nothing_half_written(tmp_path):
    import resource

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    photo = photographs(tmp_path / "in", 1) / "000.jpg"
    command = [*COMMAND, "explain", photo, "--out", tmp_path / "out"]
    run = subprocess.run(command, preexec_fn=full, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    (line,) = run.stderr.strip().split("\n")
    assert line.startswith("Error: ")
    assert "File too large" in line
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_an_interruption_is_one_line_that_says_what_to_do(tmp_path):
    command = [*COMMAND, "quickstart", "--train", "--out", tmp_path / "out"]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    while not run.stdout.readline().startswith("2/3"):
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 1
    assert told.split("\n")[-2] == "Error: interrupted; run again to continue"
    assert "Traceback" not in told


# photographs, many of them


def test_many_photographs_make_pages_and_one_file_of_rows(tmp_path):
    out = tmp_path / "out"
    many = photographs(tmp_path / "in", 10)
    run = CliRunner().invoke(main, ["explain", str(many), "--out", str(out)])
    assert run.exit_code == 0, run.output
    rows = json.loads((out / "explanations.json").read_text())
    assert [Path(row["photo"]).name for row in rows] == [f"{i:03d}.jpg" for i in range(10)]
    pages = ["explanations.png", "explanations-002.png"]
    assert [row["picture"] for row in rows] == [pages[i // 8] for i in range(10)]
    assert {path.name for path in out.iterdir()} == {*pages, "explanations.json"}
    assert f"see {out / pages[0]} to {pages[-1]}" in run.output


def test_a_page_is_as_long_however_many_classes_are_asked_for(tmp_path):
    many = photographs(tmp_path / "in", 1)
    run = CliRunner().invoke(main, ["explain", str(many), "--out", str(tmp_path), "--top", "9"])
    assert run.exit_code == 0, run.output
    with Image.open(tmp_path / "explanations.png") as page:
        assert page.height < 1500
    rows = json.loads((tmp_path / "explanations.json").read_text())
    assert len({row["class"] for row in rows}) == 9
    assert rows[-1]["picture"] == "explanations-002.png"


def test_one_that_cannot_be_read_is_named_and_the_others_are_explained(tmp_path):
    many = photographs(tmp_path / "in", 3)
    (many / "001.jpg").write_text("no image")
    gone = tmp_path / "gone.jpg"
    run = CliRunner().invoke(main, ["explain", str(gone), str(many), "--out", str(tmp_path)])
    assert run.exit_code == 1
    *_, first, second, last = run.stderr.strip().split("\n")
    assert first == f"left out: there is no photograph at {gone}"
    assert second.startswith(f"left out: {many / '001.jpg'} is not a readable image: ")
    assert last == "Error: photographs that could not be read: 2"
    rows = json.loads((tmp_path / "explanations.json").read_text())
    assert [Path(row["photo"]).name for row in rows] == ["000.jpg", "002.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux only")
def test_a_file_name_that_is_no_text_is_explained_and_shown(tmp_path):
    folder = photographs(tmp_path / "in", 1)
    os.rename(folder / "000.jpg", os.fsencode(folder) + b"/caf\xe9.jpg")
    command = [*COMMAND, "explain", folder, "--out", tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "caf\N{REPLACEMENT CHARACTER}.jpg: " in run.stdout


def test_memory_does_not_grow_with_the_photographs(tmp_path):
    """24 of them against 8; all at once, as it was, they take 95 MB each."""
    few, many = (photographs(tmp_path / str(count), count) for count in (8, 24))
    code = """
import sys
from pathlib import Path
from learnable_cam_plugin.cli.classifiers import default_classifier
from learnable_cam_plugin.cli.pages import explain_photos
for folder in sys.argv[1:3]:
    explain_photos(default_classifier(), sorted(Path(folder).iterdir()), Path(sys.argv[3]))
    print(peak())
"""
    before, after = map(float, python(code, few, many, tmp_path / "out").split())
    assert after - before < 300
