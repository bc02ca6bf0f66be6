"""What the demo's page computes, without Gradio."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from learnable_cam_plugin import LearnableCAM
from learnable_cam_plugin.data import read_photo
from learnable_cam_plugin.demo import explainer, look_at, mask, overlay
from learnable_cam_plugin.metrics import masked_confidence

from ..cli import networks
from ..cli.photographs import photographs, spoilt


@pytest.fixture(scope="module")
def loaded():
    found = networks.small()
    found.model.eval()
    return found


@pytest.fixture(scope="module")
def explained(loaded):
    return explainer(loaded)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("look") / "in", 1) / "000.jpg"


@pytest.fixture(scope="module")
def look(loaded, explained, photo):
    return look_at(loaded, explained, photo)


def test_a_look_is_the_top_classes_and_what_explains_each(loaded, look, photo):
    image = loaded.transform(read_photo(photo, 32))
    probabilities = loaded.model(image[None]).softmax(1)[0]
    assert torch.equal(look.image, image)
    assert look.classes == probabilities.argsort(descending=True).tolist()
    assert look.names == [networks.NAMES[c] for c in look.classes]
    assert look.probabilities == pytest.approx(probabilities[look.classes].tolist(), abs=1e-6)
    cam = LearnableCAM(loaded.model)
    targets = [ClassifierOutputTarget(c) for c in look.classes]
    expected = cam.saliency(image[None].expand(5, -1, -1, -1), targets)
    assert look.maps.shape == (5, 32, 32)
    assert (look.maps - expected).abs().max() < 1e-4


def test_at_no_threshold_all_is_as_it_was(loaded, look):
    masked = mask(loaded, look, 0, 0.0)
    assert masked.kept == 1
    assert masked.probabilities == pytest.approx(look.probabilities, abs=1e-6)


@pytest.mark.parametrize("filling", ["black", "mean", "blur"])
def test_a_threshold_keeps_the_pixels_where_the_map_is_as_high(loaded, look, filling):
    masked = mask(loaded, look, 1, 0.5, filling)
    shown = look.maps[1].numpy() >= 0.5
    assert masked.kept == pytest.approx(shown.mean())
    assert 0 < masked.kept < 1
    whole = mask(loaded, look, 1, 0.0).pixels
    assert np.array_equal(masked.pixels[shown], whole[shown])
    assert not np.array_equal(masked.pixels[~shown], whole[~shown])
    if filling == "black":
        assert not masked.pixels[~shown].any()
    pixels = torch.from_numpy(np.where(shown, look.image, 0)).float()
    if filling == "black":  # of these networks 0 is black
        expected = loaded.model(pixels[None]).softmax(1)[0, look.classes].tolist()
        assert masked.probabilities == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("filling", ["black", "mean", "blur"])
def test_dimmed_at_no_threshold_it_is_what_average_drop_measures(loaded, look, filling):
    image, classes = look.image[None], torch.tensor(look.classes[:1])
    measured = masked_confidence(
        loaded.model, image, look.maps[:1], classes, loaded.normalization, [1.0], filling
    )
    masked = mask(loaded, look, 0, 0.0, filling, dim=True)
    assert masked.probabilities[0] == pytest.approx(float(measured[1.0]), abs=1e-6)
    assert masked.kept == 1


def test_the_higher_the_threshold_the_less_is_kept_and_never_nothing(loaded, look):
    kept = [mask(loaded, look, 0, t / 10).kept for t in range(11)]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] > 0  # a map's highest value is 1


def test_the_overlay_is_an_image_of_the_class(loaded, look):
    first, second = (overlay(loaded, look, number) for number in (0, 1))
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)


def test_names_that_two_classes_share_are_told_apart(loaded, explained, photo, look):
    double = replace(loaded, class_names=("ant", "crane", "cat", "crane", "elk"))
    names = look_at(double, explained, photo).names
    assert {"crane (1)", "crane (3)", "ant", "cat", "elk"} == set(names)
    unnamed = look_at(replace(loaded, class_names=None), explained, photo).names
    assert unnamed == [f"class {c}" for c in look.classes]
    with pytest.raises(ValueError, match="there are 2 class names, the model gives 5 scores"):
        look_at(replace(loaded, class_names=("a", "b")), explained, photo)


def test_a_turned_photograph_is_seen_upright(loaded, explained, tmp_path):
    upright = Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 36, 3), np.uint8))
    upright.save(tmp_path / "upright.png")
    turned, exif = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    images = [
        look_at(loaded, explained, tmp_path / f"{n}.png").image for n in ("upright", "turned")
    ]
    assert torch.equal(*images)


def test_what_cannot_be_shown_is_refused_by_name(loaded, explained, look, tmp_path):
    half = spoilt(photographs(tmp_path / "in", 1) / "000.jpg")
    with pytest.raises(ValueError, match=r"000\.jpg is not a readable image"):
        look_at(loaded, explained, half)
    with pytest.raises(FileNotFoundError, match="no photograph at"):
        look_at(loaded, explained, tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match=r"the threshold must be in \[0, 1\], got 1.5"):
        mask(loaded, look, 0, 1.5)
    with pytest.raises(ValueError, match="filling is 'pink'"):
        mask(loaded, look, 0, 0.5, "pink")
    with pytest.raises(ValueError, match="top must be 1 or more, got 0"):
        explainer(loaded, top=0)
    with pytest.raises(ValueError, match="nothing records the normalisation of 'small'"):
        explainer(replace(loaded, normalization=None))


def test_a_network_of_a_single_class_has_one_map(photo):
    net = networks.tiny_network(1).eval()
    single = replace(networks.small(), model=net, class_names=None)
    look = look_at(single, explainer(single), photo)
    assert look.names == ["class 0"]
    assert look.maps.shape == (1, 32, 32)


def test_fewer_classes_than_asked_for(loaded, photo):
    assert len(look_at(loaded, explainer(loaded, top=2), photo).classes) == 2
    assert len(look_at(loaded, explainer(loaded, top=50), photo).classes) == 5
