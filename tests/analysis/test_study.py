"""Images and labels in, cases and causes out; with a network that errs as it was built to."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from learnable_cam_plugin import (
    ContrastTarget,
    LCAMAttention,
    LearnableCAM,
    condition,
)
from learnable_cam_plugin.analysis import CAUSES, Photo, Thresholds, analyze, write_report
from learnable_cam_plugin.analysis.maps import Eyes
from learnable_cam_plugin.analysis.things import surrounded
from learnable_cam_plugin.masking import mask_image

from ..conftest import UNIT, tiny_network


@pytest.fixture
def batches(images, tiny):
    """Eight images in two batches, every second one labelled with another class than wins."""
    more = torch.cat([images, images.flip(3)])
    with torch.no_grad():
        wins = tiny.eval()(more).argmax(1).tolist()
    photos = [Photo(f"{i}.jpg", (top + i % 2) % 5) for i, top in enumerate(wins)]
    return [(more[:3], photos[:3]), (more[3:], photos[3:])]


def test_every_error_is_a_case_with_its_numbers(tiny, batches):
    found = analyze(tiny, batches, UNIT, progress=False)
    assert (found.images, found.errors) == (8, 4)
    assert [case.photo.name for case in found.cases] == [f"{i}.jpg" for i in range(8)]
    images = torch.cat([images for images, _ in batches])
    with torch.no_grad():
        shares = tiny(images).softmax(1)
    for image, share, case in zip(images, shares, found.cases, strict=True):
        assert case.predicted == int(share.argmax())
        assert case.correct == (case.cause == "correct") == (case.verdict is None)
        assert case.cause in (*CAUSES, "correct")
        assert case.other == (int(share.topk(2).indices[1]) if case.correct else case.photo.label)
        assert case.probabilities[case.predicted] == pytest.approx(float(share.max()), abs=1e-5)
        assert int((share > share[case.other]).sum()) + 1 == case.rank
        assert case.size == tuple(image.shape[1:])
        assert 0 <= case.doubt <= 1
    assert sum(found.counts().values()) == 4
    for region, count in found.turned().items():
        ahead = np.array(
            [
                [
                    t.other > t.predicted
                    for t in case.trials
                    if (t.region, t.action) == (region, "erase")
                ]
                for case in found.cases
                if not case.correct
            ]
        ).reshape(4, -1, 4)
        assert ahead.shape[1] == (3 if region in ("random", "elsewhere") else 1)
        assert count == pytest.approx((ahead.sum(2) >= 3).mean(1).sum())
    assert sum(pair.errors for pair in found.pairs) == 4


class Even(nn.Module):
    """Seventeen classes, all equally probable but the first: more than an unstable sort keeps in
    order."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.pool = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 17)
        with torch.no_grad():
            self.head.weight[1:] = self.head.weight[1]
            self.head.bias[1:] = self.head.bias[1]
            self.head.weight[0], self.head.bias[0] = self.head.weight[1], -100.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(images)).flatten(1))


def test_of_equally_probable_classes_the_first_is_predicted_throughout():
    photos = [Photo("right.jpg", 1), Photo("wrong.jpg", 9)]
    batch = torch.rand(2, 3, 24, 24), photos
    found = analyze(Even(), [batch], UNIT, progress=False)
    assert found.errors == 1
    assert [(case.predicted, case.correct) for case in found.cases] == [(1, True), (1, False)]
    assert [case.other for case in found.cases] == [2, 9]


def test_the_contrasts_are_those_of_learnable_cam_on_one_scale(tiny, batches):
    found = analyze(tiny, batches, UNIT, progress=False)
    images = torch.cat([images for images, _ in batches])
    pairs = [(case.predicted, case.other) for case in found.cases]
    asked = {
        "contrast": [ContrastTarget(a, b) for a, b in pairs],
        "reverse": [ContrastTarget(b, a) for a, b in pairs],
    }
    with LearnableCAM(tiny) as cam:
        for name, targets in asked.items():
            full = cam.comparable(images, targets)
            for case, expected in zip(found.cases, full, strict=True):
                small = torch.from_numpy(getattr(case.maps, name))
                shown = nn.functional.interpolate(small[None, None], case.size, mode="bilinear")
                # scaled before it is enlarged, not after: a lone place is dimmed by enlarging it
                assert float(small.max()) == pytest.approx(float(expected.max()), abs=1e-3)
                again = shown[0, 0] * expected.max() / shown.max()
                assert abs(again - expected).max() < 0.02


def test_a_classs_map_is_against_all_but_the_other_one(tiny, batches):
    """Else look-alikes, which compete most, would be shown where they differ alone."""
    images, photos = batches[1]
    cases = analyze(tiny, [(images, photos)], UNIT, progress=False).cases
    for image, one in zip(images, cases, strict=True):
        found = torch.from_numpy(one.maps.predicted)
        for twin in (0.0, 50.0):  # however strong the other class is, the map is the same
            stronger = copy.deepcopy(tiny)
            with torch.no_grad():
                stronger[-1].weight[one.other] *= 1 + twin / 100
            eyes = Eyes(stronger).look(image[None])
            pair = torch.tensor([one.predicted]), torch.tensor([one.other])
            again = torch.from_numpy(eyes.maps(*pair)[0].predicted)
            assert torch.corrcoef(torch.stack([found.flatten(), again.flatten()]))[0, 1] > 0.99


def test_a_trial_is_the_classifiers_answer_to_the_masked_image(tiny, batches):
    found = analyze(tiny, batches, UNIT, progress=False)
    images = torch.cat([images for images, _ in batches])
    for image, case in zip(images, found.cases, strict=True):
        kinds = {(t.region, t.action, t.filling) for t in case.trials}
        things = "thing" in case.regions
        assert len(kinds) == 32 + 11 * things
        assert len(case.trials) == 48 + 19 * things  # of a random region three are erased
        for trial in case.trials:
            if trial.region in ("random", "elsewhere", "beside"):
                continue
            region = torch.from_numpy(case.regions[trial.region])
            mask = (region if trial.action == "keep" else ~region).float()[None]
            if trial.filling == "surroundings":
                changed = surrounded(image[None], mask == 0)
            else:
                changed = mask_image(image[None], mask, UNIT, trial.filling)
            with torch.no_grad():
                p = tiny(changed).softmax(1)[0]
            assert trial.predicted == pytest.approx(float(p[case.predicted]), abs=1e-5)
            assert trial.other == pytest.approx(float(p[case.other]), abs=1e-5)
            assert trial.top == int(p.argmax())


def test_a_seed_repeats_it_and_batches_do_not_matter(tiny, batches):
    images = torch.cat([images for images, _ in batches])
    photos = [photo for _, photos in batches for photo in photos]
    first = analyze(tiny, batches, UNIT, progress=False)
    again = analyze(tiny, batches, UNIT, progress=False)
    one_batch = analyze(tiny, [(images, photos)], UNIT, progress=False)
    for a, b, c in zip(first.cases, again.cases, one_batch.cases, strict=True):
        assert a.trials == b.trials
        assert a.cause == b.cause == c.cause
        assert np.allclose(a.maps.contrast, c.maps.contrast, atol=1e-5)


def test_what_is_drawn_for_a_photograph_is_its_own(tiny, batches):
    """Beside other images, in another order, without the correct ones: an error is tested alike."""
    every = analyze(tiny, batches, UNIT, progress=False)
    turned = [(images.flip(0), photos[::-1]) for images, photos in reversed(batches)]
    errors = analyze(tiny, turned, UNIT, correct=0, progress=False)
    known = {case.photo.name: case for case in every.cases}
    assert len(errors.cases) == 4
    for case in errors.cases:
        for mine, others in zip(case.trials, known[case.photo.name].trials, strict=True):
            assert (mine.region, mine.filling) == (others.region, others.filling)
            assert mine.predicted == pytest.approx(others.predicted, abs=1e-5)
        assert case.doubt == pytest.approx(known[case.photo.name].doubt, abs=1e-5)
    other = analyze(tiny, batches, UNIT, seed=1, progress=False)
    assert [case.doubt for case in other.cases] != [case.doubt for case in every.cases]


def test_that_many_correct_images_are_looked_at(tiny, batches):
    for count in (0, 2, 3):
        found = analyze(tiny, batches, UNIT, correct=count, progress=False)
        assert sum(case.correct for case in found.cases) == count
        assert (found.images, found.errors) == (8, 4)


def test_training_images_stand_beside_each_case(tiny, batches):
    images, photos = batches[1]
    training = [(images, [Photo(f"train-{photo.name}", photo.label) for photo in photos])]
    found = analyze(tiny, batches, UNIT, training=training, progress=False)
    for case in found.cases[3:]:  # the images themselves are there
        nearest = case.neighbours[0]
        assert nearest.likeness > 0.99
        assert len(case.neighbours) == 5


def test_its_report_is_written(tiny, batches, tmp_path):
    found = analyze(tiny, batches, UNIT, progress=False)
    picture = np.zeros((20, 24, 3), np.uint8)
    page = write_report(found, tmp_path / "report", lambda name: picture)
    assert page.exists()
    assert "undetermined" in page.read_text()


def test_a_trained_attention_that_reads_the_head_serves_and_classic_cam_does_not(tiny, batches):
    images = batches[0][0]
    trained = condition(tiny, ["2", "4"], images)
    found = analyze(tiny, batches, UNIT, attention=trained, progress=False)
    assert found.settings["attention"] == type(trained).__name__
    for other in ("head", LCAMAttention({"4": 8}, 5)):
        with pytest.raises(TypeError, match="reads the classifier's head"):
            analyze(tiny, batches, UNIT, attention=other, target_layers=["4"], progress=False)


def test_what_does_not_fit_is_refused_before_it_costs(tiny, batches, images):
    photos = [Photo(f"{i}.jpg", 0) for i in range(4)]
    with pytest.raises(ValueError, match="no image to analyze"):
        analyze(tiny, [], UNIT, progress=False)
    with pytest.raises(ValueError, match="4 images and 3 photos"):
        analyze(tiny, [(images, photos[:3])], UNIT, progress=False)
    with pytest.raises(ValueError, match=r"label of 0\.jpg is 5"):
        analyze(tiny, [(images[:1], [Photo("0.jpg", 5)])], UNIT, progress=False)
    with pytest.raises(ValueError, match="5 classes, and there are 2 names"):
        analyze(tiny, batches, UNIT, ["a", "b"], progress=False)
    for fillings in ((), ("grey",), "black"):
        with pytest.raises(ValueError, match="fillings must be some of"):
            analyze(tiny, batches, UNIT, fillings=fillings, progress=False)
    with pytest.raises(ValueError, match="correct must be"):
        analyze(tiny, batches, UNIT, correct=-1, progress=False)
    with pytest.raises(ValueError, match="one score"):
        analyze(tiny_network(1), batches, UNIT, progress=False)


def test_the_model_is_left_as_it_was(tiny, batches):
    tiny.train()
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    analyze(tiny, batches, UNIT, progress=False)
    assert all(module.training for module in tiny.modules())
    for name, tensor in tiny.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not any(module._forward_hooks for module in tiny.modules())


def test_images_of_another_normalisation_are_refused(tiny):
    images, photos = 4 * torch.randn(2, 3, 16, 16), [Photo("a", 0), Photo("b", 1)]
    with pytest.raises(ValueError, match="declare the normalisation that your images went through"):
        analyze(tiny, [(images, photos)], UNIT, progress=False)


def test_thresholds_reach_the_rule_and_the_record(tiny, batches):
    found = analyze(tiny, batches, UNIT, thresholds=Thresholds(same=0.125), progress=False)
    assert found.settings["thresholds"]["same"] == 0.125
    for case in found.cases:
        if case.verdict is not None:
            assert case.verdict.checks["near-identical classes"][0].bound == 0.125


def test_what_speaks_for_the_predicted_class_lies_where_its_map_is_above_the_other_ones(
    tiny, batches
):
    for case in analyze(tiny, batches, UNIT, progress=False).cases:
        above = torch.from_numpy(case.maps.predicted - case.maps.other)
        full = nn.functional.interpolate(above.clamp(min=0)[None, None], case.size, mode="bilinear")
        found = torch.from_numpy(case.regions["contrast"])
        assert found.float().mean() <= 0.3
        if found.any():
            assert full[0, 0][found].min() >= 0.2 * full.max() - 1e-6
        assert not (case.regions["contrast"] & (full[0, 0] <= 0).numpy()).any()


def test_the_maps_of_two_classes_are_each_without_the_other_one(tiny, images):
    seen = Eyes(tiny.eval()).look(images)
    one, two = seen.probabilities.topk(2, 1).indices.unbind(1)
    found = seen.maps(one, two)
    for name, own, other in (("predicted", one, two), ("other", two, one)):
        maps = np.stack([getattr(each, name) for each in found])
        assert np.allclose(maps, seen.among(own, other), atol=1e-6)
        assert not np.allclose(maps, seen.among(own, own), atol=1e-3)
