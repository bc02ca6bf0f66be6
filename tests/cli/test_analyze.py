"""`learnable-cam analyze`, from labelled photographs to a report."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from learnable_cam_plugin.analysis.case import CAUSES
from learnable_cam_plugin.analysis.causes import Thresholds
from learnable_cam_plugin.cli import analyze as command
from learnable_cam_plugin.cli.common import Chosen
from learnable_cam_plugin.data import read_photo

from . import networks
from .photographs import content, photographs, run, spoilt

COUNT = 10
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path):
    """Ten photographs, two in a folder of each class of `networks.small`."""
    for i, name in enumerate(networks.NAMES):
        photographs(tmp_path / "in" / name.upper(), 2, seed=i)
    return tmp_path


def asked(place, *options, **more):
    return run("analyze", place / "in", "--out", place / "out", *options, **more)


def manifest(place):
    return json.loads((place / "out" / "manifest.json").read_text())


def test_folders_of_classes_become_a_report(place):
    done = asked(place)
    assert done.exit_code == 0, done.output
    first, *causes, turned, last = (
        line for line in done.stdout.splitlines() if "times as often" not in line
    )
    assert turned.startswith("erased what speaks for the predicted class rather than the true")
    assert last == f"see {place / 'out' / 'index.html'}"
    errors = int(first.split()[0])
    assert first.startswith(f"{errors} of {COUNT} images are classified wrongly")
    assert sum(int(line.split()[0]) for line in causes) == errors > 0
    told = manifest(place)
    assert (told["images"], told["errors"]) == (COUNT, errors)
    assert told["unread"] == {}
    assert told["settings"]["photographs"] == "in"
    assert told["settings"]["labels"] is None
    assert 'id="turned"' in (place / "out" / "index.html").read_text()
    assert not list((place / "out").glob(".*"))


def test_labels_of_a_file_and_json(place):
    lines = [f"{name.upper()}/00{k}.jpg,{(i + 1) % 5}" for i, name in enumerate(networks.NAMES)
             for k in (0, 1)]  # fmt: skip
    (place / "labels.csv").write_text("\n".join(["file,label", *lines]))
    done = asked(place, "--labels", place / "labels.csv", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["images"] == COUNT
    assert sum(told["causes"].values()) == told["errors"]
    assert set(told["turned"]) == {"predicted", "contrast", "random", "elsewhere"}
    assert told["control"] is None or set(told["control"]) == {"ratio", "low", "high"}
    assert told["left out"] == []
    assert (place / "out" / "index.html").samefile(told["report"])


def test_what_cannot_be_read_is_named_and_the_rest_is_analysed(place):
    spoilt(place / "in" / "BEE" / "001.jpg")
    (place / "in" / "ANT" / "empty.png").touch()
    done = asked(place)
    assert done.exit_code == 1
    assert "could not be read: 2" in done.stderr
    assert done.stderr.count("left out: ") == 2
    told = manifest(place)
    assert told["images"] == COUNT - 1
    assert {*told["unread"]} == {"BEE/001.jpg", "ANT/empty.png"}
    assert "001.jpg is not a readable image" in told["unread"]["BEE/001.jpg"]
    assert str(place / "out" / "index.html") in done.stdout


def test_without_a_photograph_that_can_be_read_nothing_is_written(place):
    for path in (place / "in").rglob("*.jpg"):
        spoilt(path)
    done = asked(place)
    assert done.exit_code == 1
    assert f"could not be read: {COUNT}" in done.stderr
    assert done.stdout == ""
    assert not (place / "out").exists()


WRONG = {
    "a folder that is not there": ("@/gone", "no folder of photographs at"),
    "a folder that is no class": ("@/odd", "dogs: there is no class 'dogs' (did you mean 'dog'?)"),
    "labels that are not there": ("@/in --labels @/gone.csv", "gone.csv"),
    "a label that there is not": ("@/in --labels @/wrong.csv", "row 2: there is no class 'cow'"),
    "a hierarchy with a circle": ("@/in --hierarchy @/circle.csv", "no class can be broader"),
    "a hierarchy of other names": ("@/in --hierarchy @/wrong.csv", "there is no class 'file'"),
    "a threshold that there is not": ("@/in --thresholds @/no.json", "'no' is no threshold; they"),
    "a threshold of a word": ("@/in --thresholds @/word.json", "word.json: level must be a number"),
    "a threshold out of range": ("@/in --thresholds @/two.json", "two.json: level must be in [0"),
    "thresholds that are none": ("@/in --thresholds @/list.json", "must have a name and a number"),
    "thresholds that are no JSON": ("@/in --thresholds @/circle.csv", "is no JSON or TOML"),
    "thresholds in another encoding": (
        "@/in --thresholds @/latin.json",
        "latin.json is no JSON or",
    ),
    "a report among the photographs": ("@/in --out @/in/out", "lies within the photographs"),
    "labels of no training images": ("@/in --train-labels @/a.csv", "goes with --train", 2),
    "training images without labels": ("@/in --train @/odd", "there is no class 'dogs'"),
    "names that are too few": ("@/in --names @/names.txt", "2 class names, the model gives 5"),
    "an attention of other weights": ("@/in --attention @/gone", "no attention at"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_a_line_before_anything_is_analysed_and_nothing_is_written(name, place, monkeypatch):
    (place / "wrong.csv").write_text("file,label\nANT/000.jpg,cow")
    (place / "circle.csv").write_text("ant,bee\nbee,ant")
    (place / "names.txt").write_text("a\nb")
    (place / "latin.json").write_bytes('{"level": "\u00e9"}'.encode("latin-1"))
    files = {"no": {"no": 1}, "word": {"level": "x"}, "two": {"level": 2}, "list": [1]}
    for file, given in files.items():
        (place / f"{file}.json").write_text(json.dumps(given))
    shutil.copytree(place / "in" / "DOG", place / "odd" / "dogs")
    monkeypatch.setattr(command, "analyze", None)
    arguments, message, code = (*WRONG[name], 1)[:3]
    given = arguments.replace("@", str(place)).split()
    given += [] if "--out" in given else ["--out", str(place / "out")]
    done = run("analyze", *given)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    assert message in done.stderr.strip().split("\n")[-1]
    assert done.stdout == ""
    assert not (place / "out").exists()


def test_after_ctrl_c_an_earlier_report_is_as_it_was(place, monkeypatch):
    assert asked(place).exit_code == 0
    before = content(place / "out")

    def interrupted(model, batches, *_, **__):
        next(iter(batches))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "analyze", interrupted)
    done = asked(place)
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("interrupted; nothing was written, run it again")
    assert content(place / "out") == before
    shutil.rmtree(place / "out")
    assert asked(place).exit_code == 1
    assert not (place / "out").exists()


def test_a_second_run_replaces_the_report(place):
    assert asked(place, "--correct", 0).exit_code == 0
    before = manifest(place)
    assert asked(place, "--correct", 5, "--seed", 1).exit_code == 0
    errors = before["errors"]
    assert len(before["cases"]) == errors
    assert len(manifest(place)["cases"]) == COUNT
    assert {**content(place / "out")}.keys() >= {"index.html", "manifest.json", "cases.csv"}


def test_the_correct_images_are_a_sample_and_an_error_does_not_hang_on_them(place):
    def cases(*options):
        assert asked(place, "--labels", place / "labels.csv", *options).exit_code == 0
        return manifest(place)["cases"]

    (place / "labels.csv").write_text(
        "file,label\n" + "\n".join(f"{path.parent.name}/{path.name},0" for path in
                                   sorted((place / "in").rglob("*.jpg")))
    )  # fmt: skip
    found = {case["name"]: case["prediction"]["class_idx"] for case in cases("--correct", COUNT)}
    wrong = min(found)
    rows = [f"{file},{(top + (file == wrong)) % 5}" for file, top in found.items()]
    (place / "labels.csv").write_text("\n".join(["file,label", *rows]))

    one = cases("--correct", 3)
    assert [case["name"] for case in one] == sorted(case["name"] for case in one)
    assert len(one) == 4
    samples = {
        tuple(case["name"] for case in cases("--correct", 3, "--seed", seed) if case["correct"])
        for seed in range(3)
    }
    assert len(samples) > 1  # not the first ones
    [alone] = cases("--correct", 0)
    [beside] = [case for case in one if not case["correct"]]
    assert alone["name"] == beside["name"] == wrong
    assert alone["doubt"] == pytest.approx(beside["doubt"], abs=1e-4)


def test_thresholds_hierarchy_and_training_images_are_used(place):
    (place / "t.json").write_text('{"same": 0.9}')
    (place / "h.csv").write_text("ant,bee\ncat,bee\ndog,bee\nelk,bee")
    options = ["--thresholds", place / "t.json", "--hierarchy", place / "h.csv"]
    done = asked(place, *options, "--train", place / "in", "--figures")
    assert done.exit_code == 0, done.output
    told = manifest(place)
    assert told["cases"]
    for case in told["cases"]:
        assert case["neighbours"], case
        assert (place / "out" / case["folder"] / "figure.png").is_file()
        classes = {case["prediction"]["class_name"], case["expected"]["class_name"]}
        if case["cause"] != "correct" and "bee" in classes:
            assert case["cause"] == "broader or narrower label"
    assert told["settings"]["thresholds"]["same"] == 0.9


def test_a_training_photograph_that_cannot_be_read_is_left_out(place):
    shutil.copytree(place / "in", place / "train")
    spoilt(place / "train" / "ANT" / "000.jpg")
    done = asked(place, "--train", place / "train")
    assert done.exit_code == 1
    assert "could not be read: 1" in done.stderr
    assert manifest(place)["images"] == COUNT


def test_classes_without_names_are_numbered(place):
    for i, name in enumerate(networks.NAMES):
        (place / "in" / name.upper()).rename(place / "in" / str(i))
    assert asked(place, model="other").exit_code == 0
    assert "class 3" in (place / "out" / "index.html").read_text()


def test_photographs_are_shown_as_the_classifier_sees_them(place):
    loaded = networks.small()
    names = command.class_names(loaded)
    photos = command.Labelled(loaded, torch.device("cpu"), place / "in", None, names)
    pixels = photos.as_seen("CAT/000.jpg")
    expected = loaded.transform(read_photo(place / "in" / "CAT" / "000.jpg", 32))
    assert pixels.dtype == np.uint8
    assert np.abs(pixels / 255 - expected.permute(1, 2, 0).numpy()).max() < 0.002
    (place / "in" / "CAT" / "000.jpg").unlink()
    with pytest.raises(OSError, match="no photograph at"):
        photos.as_seen("CAT/000.jpg")


def test_thresholds_in_toml(tmp_path):
    pytest.importorskip("tomllib", reason="Python 3.11")
    (tmp_path / "t.toml").write_text("apart = 0.1")
    assert command.read_thresholds(tmp_path / "t.toml") == Thresholds(apart=0.1)
    (tmp_path / "t.toml").write_text("= 1")
    with pytest.raises(ValueError, match=r"t\.toml is no JSON or TOML"):
        command.read_thresholds(tmp_path / "t.toml")


def test_the_page_names_every_cause_and_every_threshold():
    page = (ROOT / "docs" / "how-to" / "analyze.md").read_text()
    for cause in CAUSES:
        assert page.count(f"\n| {cause} |") == 2, cause
    rules = page.partition("## What the causes ask")[2].partition("### Thresholds")[0]
    named = {*re.findall("`([a-z]+)`", rules)} | {"level", "area", "margin"}  # of the regions
    assert named == {*Thresholds.__dataclass_fields__}


def test_the_same_from_python(place):
    chosen = Chosen(f"{networks.HERE}:small", None, None, None, "cpu")
    out = place / "out"
    analysis, unread, page = command.analyze_photos(
        networks.small(), chosen, None, place / "in", out, command.Wanted()
    )
    assert unread == []
    assert page == out / "index.html"
    assert analysis.settings["model"] == chosen.model


@pytest.mark.parametrize("name", ["cases/thesis.txt", "cases", "index.html", "cases.csv"])
def test_a_folder_of_something_else_is_not_written_to(place, name):
    (place / "out" / name).parent.mkdir(parents=True)
    (place / "out" / name).write_text("mine")
    refused = asked(place)
    assert refused.exit_code == 1
    assert "of no report of this command" in refused.stderr
    assert (place / "out" / name).read_text() == "mine"
    assert not (place / "out" / "manifest.json").exists()


def test_class_folders_may_be_links_and_hidden_files_are_none(place):
    first = networks.NAMES[0].upper()
    shutil.move(place / "in" / first, place / "elsewhere")
    (place / "in" / first).symlink_to(place / "elsewhere")
    (place / "in" / "above").symlink_to(place / "in")  # which would have no end
    for hidden in (".ipynb_checkpoints/x.jpg", f"{first}/._000.jpg"):
        (place / "in" / hidden).parent.mkdir(exist_ok=True)
        (place / "in" / hidden).write_text("no photograph")
    done = asked(place)
    assert done.exit_code == 0, done.output
    assert manifest(place)["images"] == COUNT


def test_nothing_that_can_be_read_is_json_all_the_same(tmp_path):
    (tmp_path / "in" / "0").mkdir(parents=True)
    (tmp_path / "in" / "0" / "a.jpg").write_text("no photograph")
    for name, options in (("analyze", ("--out", tmp_path / "out")), ("benchmark", ())):
        done = run(name, tmp_path / "in", *options, "--json")
        assert done.exit_code == 1
        (problem,) = json.loads(done.stdout)["left out"]
        assert "a.jpg" in problem
