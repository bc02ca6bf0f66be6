import warnings

import numpy as np
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
from .networks import TimmViT, vit


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


def rows_of(model, cams, batches, **settings):
    return compare_methods(model, cams, batches, UNIT, progress=False, **settings)


def single(tiny, ending=()):
    """The class 0 of `tiny` rather than 1, as one logit."""
    head = torch.nn.Linear(5, 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, -1.0, 0.0, 0.0, 0.0]]))
        head.bias.zero_()
    return torch.nn.Sequential(*tiny, head, *ending).eval()


class Both(torch.nn.Module):
    """The same as two logits."""

    def __init__(self, one):
        super().__init__()
        self.one = one

    def forward(self, x):
        z = self.one(x)
        return torch.cat([z, torch.zeros_like(z)], 1)


def test_one_score_is_explained_and_scored_as_the_class_it_predicts(tiny, images):
    """What two scores of the same classifier get, where they are below 0 as well."""
    model = single(tiny)
    with torch.no_grad():
        middle = model(images).median()
        model[-1].bias.sub_(middle)  # some are, some are not
    two = Both(model).eval()
    (one,), (other,) = (
        rows_of(net, {"Grad-CAM": GradCAM(net, [net_layer])}, [images])
        for net, net_layer in ((model, model[4]), (two, model[4]))
    )
    assert {**one, "ms": 0} == pytest.approx({**other, "ms": 0}, abs=1e-3)
    cams = {"Grad-CAM": GradCAM(model, [model[4]])}
    with pytest.raises(ValueError, match="labels of 0 and 1 are no classes of it"):
        rows_of(model, cams, [(images, torch.tensor([0, 0, 0, 0]))])


def test_a_probability_is_no_logit_and_is_told_of(tiny, images):
    model = single(tiny, [torch.nn.Sigmoid()])
    with pytest.warns(UserWarning, match="lies in .0, 1. for all 8 images.*without its sigmoid"):
        rows_of(model, {"Grad-CAM": GradCAM(model, [model[4]])}, [images, images])
    with warnings.catch_warnings():  # so few logits may lie there
        warnings.simplefilter("error")
        rows_of(model, {"Grad-CAM": GradCAM(model, [model[4]])}, [images])


def test_images_of_another_normalisation_are_refused(tiny, images):
    with pytest.raises(ValueError, match="declare the normalisation"):
        rows_of(tiny, {"a": LearnableCAM(tiny)}, [images * 255])
    maps = torch.rand(4, 20, 24)
    with pytest.raises(ValueError, match="declare the normalisation"):
        masked_confidence(tiny, images * 255, maps, torch.zeros(4).long(), UNIT)


def test_batches_as_loaders_give_them(tiny, images):
    tiny.eval()
    cams = {"ours": LearnableCAM(tiny)}
    (row,), (other,) = rows_of(tiny, cams, [images]), rows_of(tiny, cams, [[images]])
    assert {**row, "ms": 0} == {**other, "ms": 0}
    for wrong in (images, [{"images": images}], [(images, None, None, None)], [()]):
        with pytest.raises(TypeError, match="batch"):
            rows_of(tiny, cams, wrong)
    classes, regions = torch.zeros(4).long(), torch.ones(4, 20, 24, dtype=torch.bool)
    with pytest.raises(ValueError, match="some batches have regions"):
        rows_of(tiny, cams, [(images, classes), (images, classes, regions)])


class Peer:
    def __init__(self, give):
        self.give = give

    def __call__(self, images, targets):
        return self.give(images)


def test_a_method_that_fails_is_named_with_its_batch(tiny, images):
    def fails(given):
        raise IndexError("boom")

    for give, why in (
        (fails, "IndexError: boom"),
        (lambda given: np.full((4, 20, 24), np.nan, np.float32), "NaN"),
        (lambda given: torch.full((4, 20, 24), 2.0), "not .0, 1."),
    ):
        with pytest.raises(RuntimeError, match=f"'mine', batch 1: .*{why}"):
            rows_of(tiny.eval(), {"mine": Peer(give)}, [images])


def test_a_method_without_memory_left_ends_it(tiny, images):
    def fails(given):
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(torch.cuda.OutOfMemoryError):
        rows_of(tiny.eval(), {"mine": Peer(fails)}, [images])


def test_a_call_before_the_first_that_is_timed_may_look_things_up(tiny, images):
    sizes = []

    def blank(given):
        sizes.append(len(given))
        return np.zeros((len(given), 20, 24), np.float32)

    rows_of(tiny.eval(), {"mine": Peer(blank)}, [images, images])
    assert sizes == [1, 4, 4]


def test_images_are_left_as_they_are_by_a_classifier_that_works_in_place_on_them(tiny, images):
    model = torch.nn.Sequential(torch.nn.Hardtanh(0.4, 0.6, inplace=True), *tiny).eval()
    before = images.clone()
    rows_of(
        model, {"mine": Peer(lambda given: np.zeros((len(given), 20, 24), np.float32))}, [images]
    )
    assert torch.equal(images, before)


def test_labels_and_regions_that_do_not_fit_are_no_methods_fault(tiny, images):
    cams = {"mine": Peer(lambda given: np.zeros((4, 20, 24), np.float32))}
    with pytest.raises(IndexError, match="class index 7 is out of range"):
        rows_of(tiny.eval(), cams, [(images, torch.tensor([0, 1, 7, 2]))])
    with pytest.raises(ValueError, match=r"regions \(4, 5, 5\) do not fit images"):
        rows_of(tiny, cams, [(images, torch.zeros(4).long(), torch.ones(4, 5, 5).bool())])


def test_maps_may_be_tensors_or_seen_from_behind(tiny, images):
    maps = np.random.default_rng(0).random((4, 20, 24), np.float32)
    given = (maps, torch.from_numpy(maps), np.ascontiguousarray(maps[:, ::-1])[:, ::-1])
    rows = [rows_of(tiny.eval(), {"m": Peer(lambda _, m=m: m)}, [images])[0] for m in given]
    assert {**rows[0], "ms": 0} == {**rows[1], "ms": 0} == {**rows[2], "ms": 0}


def test_a_name_may_have_a_bar_or_a_dollar(tmp_path, images):
    assert "| a\\|b | 1.0 |" in markdown_table([{"method": "a|b", "AD": 1.0}])
    maps = {"image": np.zeros((4, 20, 24), np.float32), "$5^_": torch.rand(4, 20, 24)}
    picture(tmp_path / "p.png", images, ["cost $5^_", "$", "^", "_"], maps, UNIT)


@pytest.mark.parametrize(
    ("maps", "titles", "why"),
    [
        (torch.rand(4, 20, 24), "abc", "4 images need a title each, got 3"),
        (torch.rand(3, 20, 24), "abcd", "'m': maps .3, 20, 24. do not fit images"),
        (torch.rand(4, 10, 12), "abcd", "do not fit"),
        (torch.full((4, 20, 24), torch.nan), "abcd", "'m': saliency holds NaN"),
        (2 * torch.ones(4, 20, 24), "abcd", "not .0, 1."),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, images, maps, titles, why):
    with pytest.raises(ValueError, match=why):
        picture(tmp_path / "p.png", images, list(titles), {"m": maps}, UNIT)
    assert not list(tmp_path.iterdir())


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
    transformer, pictures = TimmViT().eval(), torch.rand(1, 3, 32, 32)
    with grad_cam(FrozenClassifier.found(transformer, pictures), (32, 32)) as cam:
        assert cam.target_layers == [transformer.blocks[-1].norm1]
