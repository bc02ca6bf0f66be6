import os

import pytest
import torch
from PIL import Image

from learnable_cam_plugin import Normalization
from learnable_cam_plugin.data import PhotoFolder, photo_files

UNIT = Normalization([0.0], [1.0])


@pytest.fixture
def folder(tmp_path):
    for name in ("a/one.png", "b/two.JPG"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (80, 60), (255, 0, 0)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_photographs_at_any_depth(folder):
    photos = PhotoFolder(folder, UNIT, size=32)
    assert [p.name for p in photos.files] == ["one.png", "two.JPG"]
    assert photos[0].shape == (3, 32, 32)
    assert photos[0][0].min() == 1
    assert photos[0][1].max() == 0
    assert PhotoFolder(folder, Normalization([0.5], [0.5]), size=32)[0][1].max() == -1


def test_training_crops_are_seeded_by_torch(folder):
    Image.effect_noise((80, 60), 90).save(folder / "a" / "one.png")
    photos = PhotoFolder(folder, UNIT, size=32, train=True)
    torch.manual_seed(0)
    first = photos[0]
    assert not torch.equal(first, photos[0])
    torch.manual_seed(0)
    assert torch.equal(first, photos[0])


def test_empty_missing_and_corrupt(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="no folder of photographs at"):
        PhotoFolder(tmp_path / "nowhere", UNIT)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no photograph .* under"):
        PhotoFolder(tmp_path / "empty", UNIT)
    (folder / "a" / "one.png").write_bytes((folder / "a" / "one.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"one.png is not a readable image"):
        PhotoFolder(folder, UNIT)[0]


def test_a_folder_that_cannot_be_read_is_said_and_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.jpg").touch()
    scan = os.scandir

    def closed(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(PermissionError, match="closed"):
        photo_files(tmp_path)


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path):
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("in/b/1.jpg", "other/2.jpg", "in/.hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "in" / "d").mkdir()
    links = [("a", "other"), ("c", "other"), ("b/up", "in"), ("b/self", "in/b")]
    for name, target in (*links, ("b/d", "in/d"), ("d/b", "in/b"), ("0", "in/b")):
        (tmp_path / "in" / name).symlink_to(tmp_path / target)
    found = [path.relative_to(tmp_path / "in").as_posix() for path in photo_files(tmp_path / "in")]
    assert found == ["a/2.jpg", "b/1.jpg"]  # each where it is, or is first
