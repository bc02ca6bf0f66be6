"""What a report leaves on the disk, and what it leaves alone."""

import csv
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from learnable_cam_plugin.analysis import written
from learnable_cam_plugin.analysis.written import write_report

from .made import EVIL_FILE, made_analysis, made_case, photograph_of


def files(folder) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_masks_are_grey_at_the_images_size_and_on_one_scale(tmp_path):
    analysis = made_analysis(2, 1)
    assert write_report(analysis, tmp_path, photograph_of(analysis)) == tmp_path / "index.html"
    case, folder = analysis.cases[0], tmp_path / "cases" / "0001-0000_goose"
    highest = {}
    for kind in ("predicted", "other", "contrast", "reverse"):
        with Image.open(folder / f"{kind}.png") as mask:
            assert (mask.mode, mask.size) == ("L", (64, 48))
            highest[kind] = int(np.asarray(mask).max())
        assert np.array_equal(np.load(folder / f"{kind}.npy"), getattr(case.maps, kind))
    assert highest["predicted"] > 2 * highest["other"] > 0  # 0.3 and 0.12, neither scaled by itself
    for kind, region in case.regions.items():
        with Image.open(folder / f"{kind}-region.png") as mask:
            assert np.array_equal(np.asarray(mask) == 255, region)


def test_the_table_has_a_line_a_case_and_every_trial(tmp_path):
    analysis = made_analysis(3, 1)
    # a random region, and another
    repeated = next(t for t in analysis.cases[0].trials if t.region == "random")
    first = replace(analysis.cases[0], trials=(*analysis.cases[0].trials, repeated))
    analysis = replace(analysis, cases=(first, *analysis.cases[1:]))
    write_report(analysis, tmp_path, photograph_of(analysis))
    with open(tmp_path / "cases.csv", encoding="utf-8", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [line["cause"] for line in lines] == [case.cause for case in analysis.cases]
    assert lines[0]["erase_predicted_black_p_other"] == "0.6"
    assert lines[0]["erase_predicted_black_top"] == str(analysis.cases[0].other)
    assert lines[0]["erase_random_black_2_top"] == str(repeated.top)
    assert lines[1]["erase_random_black_2_top"] == ""
    assert all((tmp_path / line["folder"] / "image.jpg").is_file() for line in lines)


def test_a_hostile_name_stays_inside_the_folder_and_every_file_is_read_again(tmp_path):
    names = (f"../../{EVIL_FILE}", "/etc/passwd", "..", 'a\nb,c".jpg', "CON", "=1+1.jpg")
    cases = tuple(made_case(i, name=name) for i, name in enumerate(names))
    analysis = replace(made_analysis(6, 0), cases=cases, contexts={})
    out = tmp_path / "out"
    write_report(analysis, out, photograph_of(analysis))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert [case["name"] for case in manifest["cases"]] == list(names)
    assert all((out / case["input_image"]).is_file() for case in manifest["cases"])
    with open(out / "cases.csv", encoding="utf-8", newline="") as handle:
        read = [line["name"] for line in csv.DictReader(handle)]
    assert read[1:] == [*names[1:-1], "'=1+1.jpg"]  # no formula
    assert read[0] == names[0].replace("\udcff", "\\udcff")  # no text: a byte of no encoding


def test_the_old_report_stays_until_the_new_one_is_whole(tmp_path):
    first, second = made_analysis(2, 0), made_analysis(3, 1)
    write_report(first, tmp_path, photograph_of(first))
    (tmp_path / "mine.txt").write_text("kept")
    before = files(tmp_path)
    good = photograph_of(second)

    def interrupted(name: str):
        if name == second.cases[2].photo.name:
            raise KeyboardInterrupt
        return good(name)

    with pytest.raises(KeyboardInterrupt):
        write_report(second, tmp_path, interrupted)
    assert files(tmp_path) == before
    write_report(second, tmp_path, good)
    after = files(tmp_path)
    assert after["mine.txt"] == b"kept"
    assert len([name for name in after if name.endswith("image.jpg")]) == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_a_killed_run_left_is_removed(tmp_path):
    left = tmp_path / ".learnable-cam-report" / "cases" / "0001-left"
    left.mkdir(parents=True)
    (left / "image.jpg").write_text("half")
    analysis = made_analysis(1, 0)
    write_report(analysis, tmp_path, photograph_of(analysis))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cases",
        "cases.csv",
        "index.html",
        "manifest.json",
    ]
    assert len(list((tmp_path / "cases").iterdir())) == 1


def test_the_page_is_moved_to_its_place_last(tmp_path, monkeypatch):
    analysis = made_analysis(1, 0)
    moved, replace_file = [], written.os.replace
    monkeypatch.setattr(
        "os.replace", lambda a, b: (moved.append(written.Path(b).name), replace_file(a, b))
    )
    write_report(analysis, tmp_path, photograph_of(analysis))
    assert moved == ["manifest.json", "cases.csv", "index.html"]


def test_cases_that_cannot_be_moved_leave_the_old_ones(tmp_path, monkeypatch):
    first, second = made_analysis(2, 0), made_analysis(3, 0)
    write_report(first, tmp_path, photograph_of(first))
    before, rename = files(tmp_path), written.os.rename

    def refused(a, b):
        if str(a) == str(tmp_path / ".learnable-cam-report" / "cases"):
            raise PermissionError(13, "refused", str(b))
        rename(a, b)

    monkeypatch.setattr("os.rename", refused)
    with pytest.raises(PermissionError):
        write_report(second, tmp_path, photograph_of(second))
    assert files(tmp_path) == before


def test_a_photograph_that_is_gone_costs_its_picture_alone(tmp_path):
    analysis = made_analysis(3, 0)
    good = photograph_of(analysis)

    def photograph(name: str):
        if name == analysis.cases[1].photo.name:
            raise FileNotFoundError(2, "No such file or directory", name)
        return good(name)

    write_report(analysis, tmp_path, photograph)
    cases = json.loads((tmp_path / "manifest.json").read_text())["cases"]
    assert cases[1]["input_image"] is None
    assert "No such file" in cases[1]["problem"]
    assert "problem" not in cases[0]
    assert (tmp_path / cases[1]["folder"] / "predicted.png").is_file()
    assert not (tmp_path / cases[1]["folder"] / "image.jpg").exists()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            np.zeros((48, 64, 3), np.float32),
            TypeError,
            r"0000_goose.*uint8 array of RGB, got float",
        ),
        (Image.new("RGB", (64, 48)), TypeError, r"got Image: for a PIL image, np.asarray"),
        (np.zeros((48, 48, 3), np.uint8), ValueError, r"\(48, 64, 3\).*got \(48, 48, 3\).*crop it"),
        (np.zeros((48, 64), np.uint8), ValueError, r"got \(48, 64\)"),
    ],
)
def test_other_pixels_are_refused_by_name(tmp_path, given, error, message):
    with pytest.raises(error, match=message):
        write_report(made_analysis(1, 0), tmp_path, lambda name: given)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_cases(tmp_path):
    """Photographs of 0.3 MB each, twelve of them, and not two at a time."""
    analysis = made_analysis(12, 0, size=(320, 320), grid=(7, 7))
    given = photograph_of(analysis)(analysis.cases[0].photo.name)
    peaks = []
    for cases in (analysis.cases[:4], analysis.cases):
        tracemalloc.start()
        write_report(replace(analysis, cases=cases), tmp_path, lambda name: given.copy())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 8 * 0.1 * given.nbytes


def test_no_case_is_a_report_too(tmp_path):
    analysis = made_analysis(0, 0)
    analysis = replace(analysis, images=4, contexts={})
    page = write_report(analysis, tmp_path, photograph_of(analysis)).read_text(encoding="utf-8")
    assert "0 of 4 images classified wrongly" in page
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["cases"] == []
    assert manifest["causes"]["context"] == {
        "errors": 0, "of": 0, "share": None, "low": 0.0, "high": 1.0
    }  # fmt: skip
