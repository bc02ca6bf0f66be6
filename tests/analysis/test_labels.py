"""Photographs with their labels, and what is wrong with them said by row."""

import pytest
from PIL import Image

from learnable_cam_plugin.analysis.labels import photographs

NAMES = ("tench, Tinca tinca", "great white shark", "crane", "crane", "Cardigan", "cardigan")


def folder_of(place, *names):
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(place / name)
    return place


def test_folders_are_labels(tmp_path):
    folder_of(tmp_path, "Great_White_Shark/deep/a.png", "0/b.png", "0/c.jpg")
    assert [(p.name, label) for p, label in photographs(tmp_path, None, NAMES)] == [
        ("b.png", 0),
        ("c.jpg", 0),
        ("a.png", 1),
    ]


def test_folders_that_are_no_class_are_named_with_what_is_close(tmp_path):
    folder_of(tmp_path, "tench/a.png", "great_shark/b.png", "zzz/b.png")
    with pytest.raises(ValueError, match=r"great_shark: there is no class.*'great white.*; zzz: "):
        photographs(tmp_path, None, NAMES)


def test_a_photograph_without_a_folder_has_no_label(tmp_path):
    folder_of(tmp_path, "tench/a.png", "b.png")
    with pytest.raises(ValueError, match=r"b.png has no label"):
        photographs(tmp_path, None, NAMES)


def test_a_csv_file_gives_labels(tmp_path):
    folder_of(tmp_path, "in/a.png", "in/sub/b.png", "in/c.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        'label,note,file\n"tench, Tinca tinca",x,sub/b.png\n1,,a.png\n', encoding="utf-8-sig"
    )
    with pytest.warns(UserWarning, match=r"no label of 1 photographs, which are left out: .*c.png"):
        found = photographs(tmp_path / "in", labels, NAMES)
    assert found == [(tmp_path / "in/sub/b.png", 0), (tmp_path / "in/a.png", 1)]


def test_a_csv_file_of_windows_is_read(tmp_path):
    folder_of(tmp_path, "sub/b.png")
    (tmp_path / "labels.csv").write_text("file,label\nsub\\b.png,0\n")
    assert photographs(tmp_path, tmp_path / "labels.csv", NAMES) == [(tmp_path / "sub/b.png", 0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.png,0\nb.png,0", "row 3: there is no file .*b.png"),
        ("file,label\na.png,0\n./a.png,1", "row 3: './a.png' is in row 2 already"),
        ("file,label\na.png,shrak", "row 2: there is no class 'shrak'"),
        ("a.png,0\n", "names the columns file,label, each once, got 'a.png,0'"),
        ("file,label,label\na.png,0,1\n", "each once, got 'file,label,label'"),
        ("", "must start with a row"),
        ("file,label\n", "no row below its header"),
        ("file,label\na.png,tench, Tinca tinca", 'row 2 has not the 2 columns.*"tench, Tinca'),
        ("file,label\na.png", "row 2 has not the 2 columns"),
        ("file,label\n" + "b.png,0\n" * 6, "row 2.*row 3.*row 4.*; and 3 more$"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_by_its_number(content, message, tmp_path):
    folder_of(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        photographs(tmp_path, tmp_path / "labels.csv", NAMES)


def test_a_file_that_is_no_csv_is_named(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"file,label\ncaf\xe9.png,0")
    with pytest.raises(ValueError, match=r"labels.csv is no CSV file in UTF-8"):
        photographs(tmp_path, tmp_path / "labels.csv", NAMES)
    with pytest.raises(FileNotFoundError):
        photographs(tmp_path, tmp_path / "gone.csv", NAMES)


def test_a_row_is_numbered_by_its_line(tmp_path):
    folder_of(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_text("file,label\n\na.png,0\n\n\nb.png,0\n")
    with pytest.raises(ValueError, match="row 6: there is no file"):
        photographs(tmp_path, tmp_path / "labels.csv", NAMES)
