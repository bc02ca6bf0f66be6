import pytest
import torch
from PIL import Image

from learnable_cam_plugin import Normalization
from learnable_cam_plugin.data import PhotoFolder

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
