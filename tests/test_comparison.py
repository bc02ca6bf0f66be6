import pytest
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM

from learnable_cam_plugin import FrozenClassifier, LearnableCAM
from learnable_cam_plugin.comparison import (
    class_maps,
    compare_methods,
    grad_cam,
    markdown_table,
    picture,
)
from learnable_cam_plugin.metrics import average_drop, masked_confidence

from .conftest import UNIT
from .networks import vit


def test_rows_hold_the_papers_columns_and_agree_with_the_metrics(tiny, images):
    tiny.eval()
    methods = {
        "Grad-CAM": GradCAM(tiny, [tiny[4]]),
        "LearnableCAM": LearnableCAM(tiny, [tiny[4]]),
    }
    rows = compare_methods(tiny, methods, [images[:3], images[3:]], UNIT, progress=False)
    assert [row["method"] for row in rows] == list(methods)
    with torch.no_grad():
        p, classes = tiny(images).softmax(1).max(1)
    maps = class_maps(methods["LearnableCAM"], images, classes)
    masked = masked_confidence(tiny, images, maps, classes, UNIT)
    assert rows[1]["AD 50%"] == pytest.approx(average_drop(p, masked[0.5]), abs=1e-3)
    assert {"AD 100%", "IC 15%", "ms", "images"} <= rows[1].keys()
    assert rows[1]["images"] == 4
    assert "| LearnableCAM |" in markdown_table(rows)


def test_regions_add_the_location(tiny, images):
    regions = torch.zeros(4, 20, 24, dtype=torch.bool)
    regions[:, :, :12] = True
    batch = (images, torch.tensor([0, 1, 2, 3]), regions)
    (row,) = compare_methods(
        tiny, {"a": LearnableCAM(tiny, [tiny[4]])}, [batch], UNIT, progress=False
    )
    assert 0 <= row["energy inside"] <= 100
    assert 0 <= row["pointing game"] <= 100


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_are_integers_of_any_kind_and_one_an_image(tiny, images, dtype):
    classes = torch.tensor([0, 1, 2, 4])
    cams = {"ours": LearnableCAM(tiny.eval())}
    (row,), (other,) = (
        compare_methods(tiny, cams, [(images, one)], UNIT, progress=False)
        for one in (classes, classes.to(dtype))
    )
    assert {**row, "ms": 0} == {**other, "ms": 0}
    with pytest.raises(ValueError, match="classes must be integers of shape"):
        compare_methods(tiny, cams, [(images, torch.eye(5)[classes])], UNIT, progress=False)


def test_no_image_is_an_error(tiny):
    with pytest.raises(ValueError, match="no image"):
        compare_methods(tiny, {}, [], UNIT, progress=False)


def test_the_picture_is_an_image_of_all_methods(tmp_path, images):
    picture(tmp_path / "p.png", images, list("abcd"), {"m": torch.rand(4, 20, 24)}, UNIT)
    with Image.open(tmp_path / "p.png") as image:
        assert image.width > 300
        assert image.height > 600
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_grad_cam_stands_where_its_users_set_it(tiny, images):
    tiny.eval()
    with grad_cam(FrozenClassifier.found(tiny, images), images.shape[2:]) as cam:
        found = class_maps(cam, images, torch.tensor([0, 1, 2, 3]))
    with GradCAM(tiny, [tiny[4]]) as other:
        assert torch.equal(found, class_maps(other, images, torch.tensor([0, 1, 2, 3])))
    transformer, pictures = vit(), torch.rand(1, 3, 64, 64)
    with grad_cam(FrozenClassifier.found(transformer, pictures), (64, 64)) as cam:
        assert cam.target_layers == [transformer.encoder.layers[-1].ln_1]
        assert class_maps(cam, pictures, torch.tensor([3])).shape == (1, 64, 64)
