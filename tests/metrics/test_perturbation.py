import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

from learnable_cam_plugin.masking import FILLINGS, background
from learnable_cam_plugin.metrics import deletion, insertion, road

from ..conftest import UNIT
from .conftest import sharp_network

CLASSES = torch.tensor([0, 1, 2, 4])
QUARTER = torch.zeros(1, 20, 24)
QUARTER[:, :10, :12] = 1


def distinct_maps():
    """Four maps without equal pixels."""
    return torch.stack([torch.randperm(480).view(20, 24) / 480 for _ in range(4)])


@torch.no_grad()
def slow_area(net, before, after, one, label, steps):
    """The area under the curve of one image, a pixel and a point at a time."""
    before, after, flat = before.numpy(), after.numpy(), one.flatten().tolist()
    order = sorted(range(len(flat)), key=lambda pixel: -flat[pixel])
    xs, ys = [], []
    for k in range(steps + 1):
        count = k * len(flat) // steps
        mixed = before.copy()
        for pixel in order[:count]:
            row, column = divmod(pixel, one.shape[1])
            mixed[:, row, column] = after[:, row, column]
        scores = np.exp(net(torch.from_numpy(mixed)[None])[0].double().numpy())
        xs.append(count / len(flat))
        ys.append(scores[label] / scores.sum())
    return sum((xs[k + 1] - xs[k]) * (ys[k + 1] + ys[k]) / 2 for k in range(steps))


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(2, 6), st.integers(2, 6)),
    st.integers(1, 9),
    st.integers(1, 40),
    st.sampled_from(FILLINGS),
    st.sampled_from([2, 1000]),
    st.integers(0, 99),
)
def test_areas_are_those_of_a_plain_loop(size, steps, batch_size, filling, levels, seed):
    net = sharp_network().eval()
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, *size, generator=draw)
    maps = (
        torch.randint(levels, (2, *size), generator=draw) / levels
    )  # with two levels, mostly ties
    behind = background(images, UNIT, filling)
    rest = (UNIT, steps, filling, batch_size)
    added = insertion(net, images, maps, torch.tensor([3, 1]), *rest)
    removed = deletion(net, images, maps, torch.tensor([3, 1]), *rest)
    for i, label in enumerate([3, 1]):
        slow = slow_area(net, behind[i], images[i], maps[i], label, steps)
        assert float(added[i]) == pytest.approx(slow, abs=1e-5)
        slow = slow_area(net, images[i], behind[i], maps[i], label, steps)
        assert float(removed[i]) == pytest.approx(slow, abs=1e-5)


def test_only_the_order_of_the_pixels_counts(sharp, images):
    maps = torch.rand(4, 20, 24)
    for metric in (insertion, deletion):
        score = metric(sharp, images, maps, CLASSES, UNIT)
        assert torch.allclose(score, metric(sharp, images, maps**3 / 2, CLASSES, UNIT))
    assert torch.equal(
        road(sharp, images, maps, CLASSES, (50,)), road(sharp, images, maps / 2, CLASSES, (50,))
    )


def test_inserting_the_lowest_first_is_deleting_the_highest_first(sharp, images):
    maps = torch.rand(4, 20, 24)
    added = insertion(sharp, images, 1 - maps, CLASSES, UNIT, steps=20, filling="black")
    removed = deletion(sharp, images, maps, CLASSES, UNIT, steps=20, filling="black")
    assert torch.allclose(added, removed, atol=1e-6)


def test_the_pixels_that_the_class_hangs_on_score_best(square):
    image, one = torch.full((1, 3, 20, 24), 0.9), torch.tensor([1])
    image += torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) / 10
    assert insertion(square, image, QUARTER, one, UNIT, filling="black") > 0.8
    assert insertion(square, image, 1 - QUARTER, one, UNIT, filling="black") < 0.2
    assert deletion(square, image, QUARTER, one, UNIT) < 0.2
    assert deletion(square, image, 1 - QUARTER, one, UNIT) > 0.8
    dark = (
        image.clone()
    )  # only the quarter is bright, so that its neighbours cannot stand in for it
    dark[:, :, 10:] = dark[:, :, :, 12:] = 0
    assert road(square, dark, QUARTER, one) > 0.1
    assert road(square, dark, 1 - QUARTER, one) < -0.1


def test_road_is_the_librarys_for_maps_without_equal_pixels(sharp, images):
    sharp.eval()
    maps = distinct_maps()
    scores = road(sharp, images, maps, CLASSES, (30, 70), seed=7)
    for i, label in enumerate(CLASSES.tolist()):
        torch.manual_seed(7)
        target = ClassifierOutputSoftmaxTarget(label)
        expected = ROADCombined([30, 70])(images[i][None], maps[i][None].numpy(), [target], sharp)
        assert float(scores[i]) == pytest.approx(float(expected[0]), abs=1e-7)


def test_road_is_repeatable_alone_or_in_a_batch_and_leaves_the_random_numbers_alone(sharp, images):
    maps = (torch.rand(4, 20, 24) - 0.5).clamp(min=0)
    sharp.train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    scores = road(sharp, images, maps, CLASSES)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in sharp.modules())
    torch.manual_seed(4)
    sharp.eval()
    assert torch.equal(road(sharp, images, maps, CLASSES), scores)
    assert torch.equal(road(sharp, images[2:3], maps[2:3], CLASSES[2:3]), scores[2:3])
    assert not torch.equal(road(sharp, images, maps, CLASSES, seed=1), scores)


@pytest.mark.parametrize("percentile", [20, 80])
def test_road_removes_an_exact_share_however_many_pixels_are_equal(sharp, images, percentile):
    seen = []
    handle = sharp.register_forward_hook(lambda _module, args, _output: seen.append(args[0][0]))
    maps = torch.zeros(1, 20, 24)
    maps[0, 3, 5] = 1  # the percentile is 0, which no pixel is below
    road(sharp, images[:1], maps, CLASSES[:1], (percentile,))
    handle.remove()
    removed = [int((x != images[0]).any(0).sum()) for x in seen]
    share = 480 - -(-percentile * 479 // 100)
    assert removed == [0, share, 0, share]  # the image, then least relevant and most relevant first
    assert (seen[1] == images[0])[:, 3, 5].all()
    assert (seen[3] != images[0])[:, 3, 5].all()


def of_any_kind(net):
    """A classifier's name -> one of its kind that gives the same probabilities, and the type of its
    images."""
    return {
        "softmax": (torch.nn.Sequential(net, torch.nn.Softmax(1)), torch.float32),
        "log-softmax": (torch.nn.Sequential(net, torch.nn.LogSoftmax(1)), torch.float32),
        ".logits": (ScoresIn(net), torch.float32),
        "float64": (copy.deepcopy(net).double(), torch.float64),
    }


class ScoresIn(torch.nn.Module):
    """As the models of transformers."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return SimpleNamespace(logits=self.net(images))


@pytest.mark.parametrize("kind", ["softmax", "log-softmax", ".logits", "float64"])
def test_road_is_of_probabilities_whatever_the_classifier_gives(sharp, images, kind):
    maps = distinct_maps()
    expected = road(sharp.eval(), images, maps, CLASSES, (30, 70))
    assert float(expected.abs().max()) > 0.01
    model, dtype = of_any_kind(sharp)[kind]
    found = road(model, images.to(dtype), maps, CLASSES, (30, 70))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_road_of_a_single_score_is_of_its_sigmoid(images):
    net = sharp_network()
    single = torch.nn.Sequential(net, torch.nn.Linear(5, 1)).eval()

    class Both(torch.nn.Module):
        def forward(self, x):
            score = single(x)
            return torch.cat([score, torch.zeros_like(score)], 1)  # a softmax that is its sigmoid

    maps = distinct_maps()
    zeros = torch.zeros(4, dtype=torch.long)
    found = road(single, images, maps, zeros, (50,))
    assert float(found.abs().max()) > 1e-3
    torch.testing.assert_close(found, road(Both(), images, maps, zeros, (50,)))


def test_road_of_a_classifier_in_half_precision(sharp, images):
    maps = distinct_maps()
    expected = road(sharp.eval(), images, maps, CLASSES, (50,))
    found = road(sharp.bfloat16(), images.bfloat16(), maps, CLASSES, (50,))
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)


@pytest.mark.parametrize("label", [-1, 5])
def test_road_refuses_a_class_that_there_is_not(sharp, images, label):
    maps = torch.rand(4, 20, 24)
    with pytest.raises(ValueError, match="the model scores classes 0 to 4"):
        road(sharp.eval(), images, maps, torch.full((4,), label))


def test_road_takes_grey_images(images):
    net, maps = sharp_network(channels=1), torch.rand(4, 20, 24)
    assert torch.isfinite(road(net, images[:, :1], maps, CLASSES, (50,))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda *args: insertion(*args, UNIT, steps=0), "steps and batch_size"),
        (lambda *args: deletion(*args, UNIT, batch_size=0), "steps and batch_size"),
        (lambda *args: deletion(*args, UNIT, filling="white"), "one of black, mean, blur"),
        (lambda *args: road(*args, ()), r"percentiles must lie in \[1, 100\), in percent"),
        (lambda *args: road(*args, (0, 50)), r"percentiles must lie in \[1, 100\)"),
        (lambda *args: road(*args, (0.2, 0.4)), r"in percent, got \(0.2, 0.4\)"),
    ],
)
def test_bad_settings_are_refused(sharp, images, call, message):
    with pytest.raises(ValueError, match=message):
        call(sharp, images, torch.rand(4, 20, 24), CLASSES)


def test_road_refuses_volumes(sharp):
    with pytest.raises(ValueError, match="ROAD is for images"):
        road(sharp, torch.rand(1, 3, 4, 4, 4), torch.rand(1, 4, 4, 4), torch.tensor([0]))


def test_road_ranks_maps_in_half_precision_exactly(sharp):
    """Of 4,096 places; half precision has no number for each from 2,048 on."""
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.rand(2, 3, 64, 64, generator=generator), torch.rand(2, 64, 64)
    classes = torch.tensor([0, 3])
    found, expected = (
        road(sharp.eval(), images, one, classes, (61, 77))
        for one in (maps.half(), maps.half().double())
    )
    assert torch.equal(found, expected)
