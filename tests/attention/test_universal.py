"""The mechanism that knows no classifier: inputs that mean the same, weights that serve any."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from learnable_cam_plugin import LearnableCAM, load_attention
from learnable_cam_plugin.attention import (
    HeadedAttention,
    UniversalAttention,
    known_of,
    shipped_attention,
    universal_attention,
)
from learnable_cam_plugin.attention.evidence import ENOUGH, INPUTS, evidence, standard
from learnable_cam_plugin.attention.universal import HIGHEST
from learnable_cam_plugin.saliency import min_max

from ..conftest import tiny_network


def features(seed=0, channels=(6, 8), grids=((10, 12), (5, 6)), count=3):
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, grids, strict=True)
    return [torch.rand(count, c, *grid, generator=generator) for c, grid in pairs]


def head(classes=5, channels=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, channels, generator=generator)
    return weight, torch.randn(classes, generator=generator)


CLASSES = torch.tensor([0, 3, 4])


def test_its_inputs_have_one_shape_for_every_classifier():
    for classes, channels, grids in [
        (5, (6, 8), ((10, 12), (5, 6))),
        (1000, (3, 64), ((14, 14), (7, 7))),
        (2, (4, 4), ((3, 3), (1, 1))),
    ]:
        found = evidence(
            features(channels=channels, grids=grids),
            *head(classes, channels[1]),
            CLASSES.clamp(max=1),
        )
        assert found.maps.shape == (3, INPUTS, *grids[0])
        assert found.contrast.shape == (3, *grids[0])
        assert bool(torch.isfinite(found.maps).all())


def test_the_contrast_is_the_gradient_of_the_classs_log_probability():
    (last,) = features()[1:]
    weight, bias = head()
    pooled = last.mean((2, 3)).requires_grad_()
    p = F.linear(pooled, weight, bias).log_softmax(1).gather(1, CLASSES[:, None]).sum()
    (gradient,) = torch.autograd.grad(p, pooled)
    expected = standard((last * gradient[:, :, None, None]).sum(1))
    found = evidence([last], weight, bias, CLASSES).contrast
    assert torch.allclose(found, expected, atol=1e-3)


def test_the_contrast_does_not_fade_where_the_classifier_is_sure():
    (last,) = features()[1:]
    weight, bias = head()
    unsure = evidence([last], weight, bias, CLASSES).contrast
    bias[CLASSES[0]] += 30  # p is 1 in float32, and 1 - p is 0
    sure = evidence([last], weight, bias, CLASSES).contrast
    assert torch.allclose(sure[0], unsure[0], atol=2e-2)


def test_all_maps_but_the_norms_change_with_the_class():
    fine, last = features()
    weight, bias = head()
    seen = [evidence([fine, last], weight, bias, torch.full((3,), y)).maps for y in range(5)]
    spread = torch.stack(seen).std(0).amax((0, 2, 3))
    assert (spread < 1e-6).nonzero()[:, 0].tolist() == [6, INPUTS - 1]
    assert int((spread > 1e-2).sum()) == INPUTS - 2


def test_the_order_of_channels_and_of_the_other_classes_does_not_matter():
    fine, last = features()
    weight, bias = head()
    order, classes = torch.randperm(8), torch.tensor([4, 2, 0, 1, 3])
    expected = evidence([fine, last], weight, bias, CLASSES).maps
    channels = evidence([fine.flip(1), last[:, order]], weight[:, order], bias, CLASSES).maps
    assert torch.allclose(channels, expected, atol=1e-4)
    where = classes.argsort()[CLASSES]
    others = evidence([fine, last], weight[classes], bias[classes], where).maps
    assert torch.allclose(others, expected, atol=1e-4)


def test_the_scale_of_the_finer_layer_does_not_matter():
    fine, last = features()
    expected = evidence([fine, last], *head(), CLASSES).maps
    assert torch.allclose(evidence([7 * fine, last], *head(), CLASSES).maps, expected, atol=2e-2)


def test_lengths_that_differ_by_rounding_alone_are_the_same_everywhere():
    """What a LayerNorm gives: half of a millionth became a hundredth of a deviation."""
    torch.manual_seed(0)
    last = F.layer_norm(torch.randn(3, 4, 4, 768), (768,)).permute(0, 3, 1, 2)
    weight, bias = head(channels=768)
    found = evidence([last], weight, bias, CLASSES).maps
    exact = evidence([last.double()], weight, bias, CLASSES).maps
    assert (found - exact).abs().max() < 1e-3


def test_a_large_grid_is_compared_at_no_more_than_1024_places():
    fine, last = features(grids=((64, 64), (8, 8)))
    found = evidence([fine, last], *head(), CLASSES).maps
    assert found.shape == (3, INPUTS, 64, 64)
    places, carried = (F.adaptive_avg_pool2d(one, 32).flatten(2) for one in (fine, found[:, :4]))
    alike = F.normalize(places - places.mean(2, keepdim=True), dim=1)
    weights = (10 * alike.mT @ alike).softmax(2)
    expected = (carried @ weights.mT).unflatten(2, (32, 32))
    expected = F.interpolate(expected, (64, 64), mode="bilinear")
    assert torch.allclose(found[:, 8:11], expected[:, 1:], atol=1e-4)


def test_its_weights_serve_another_classifier(images):
    first, other = tiny_network(), tiny_network(num_classes=9, seed=4)
    trained = universal_attention(first, ["2", "4"], images, seed=3)
    bound = universal_attention(other, ["2", "4"], images, trained=trained)
    assert bound.num_classes == 9
    assert bound.out.weight is trained.out.weight
    assert trained.num_classes == 5  # as it was
    maps = LearnableCAM(other, ["2", "4"], attention=bound).saliency(images)
    assert maps.shape == (4, 20, 24)
    assert float(maps.min()) == 0
    assert float(maps.max()) == 1


def test_before_training_its_order_is_the_contrasts_at_a_weight_of_0(images, tiny):
    attention = universal_attention(tiny, ["2", "4"], images)
    with torch.no_grad():
        attention.out.weight.zero_()
    _, seen = tiny_features(tiny, images)
    (raw,) = attention(seen, torch.tensor([0, 1, 2, 3]))
    contrast = evidence(
        list(seen.values()), *attention_head(tiny), torch.tensor([0, 1, 2, 3])
    ).contrast
    assert (raw.flatten(1).argsort(1) == contrast.flatten(1).argsort(1)).float().mean() > 0.99


def classic(net, images):
    """An attention whose order is the contrast's, and what it reads of the images."""
    attention = universal_attention(net, ["2", "4"], images)
    with torch.no_grad():
        attention.out.weight.zero_()
    return attention, tiny_features(net, images)[1]


def test_its_map_is_the_height_over_the_lowest_place_narrower_the_higher_the_zero(images, tiny):
    """An independent computation, in numpy."""
    attention, seen = classic(tiny, images)
    classes = torch.tensor([0, 1, 2, 3])
    found = attention._evidence(seen, classes)
    coarse = found.maps[:, 2]  # the contrast in spreads, at the finest grid
    raw = attention._map(found).detach().numpy()
    for own, contrast, zero in zip(raw, found.contrast.numpy(), found.zero.numpy(), strict=True):
        order = (contrast - contrast.mean()) / contrast.std()
        height, k = np.minimum(order, 4.0) - order.min(), np.exp(5 * zero - 1.5)
        expected = (height + k * height**2 / 2 + k**2 * height**3 / 6) / (1 + k) ** 2
        assert np.allclose(own, expected, rtol=1e-3, atol=1e-3)
    mean, deviation = coarse.mean((1, 2)), coarse.std((1, 2))
    expected = (-mean / deviation).clamp(-1, 1)  # the grids differ
    assert torch.allclose(found.zero, expected, atol=0.2)


@pytest.mark.parametrize("zero", [-1.0, 0.0, 1.0])
def test_its_map_keeps_the_order_and_lies_between_a_line_and_a_cube(images, tiny, zero):
    attention, seen = classic(tiny, images)
    found = attention._evidence(seen, torch.tensor([0, 1, 2, 3]))
    raw = attention._map(found._replace(zero=torch.full((4,), zero))).detach().flatten(1)
    assert torch.equal(raw.argsort(1), found.contrast.flatten(1).argsort(1))
    line = min_max(found.contrast.flatten(1))
    own = min_max(raw)
    assert bool(((own <= line + 1e-4) & (own >= line**3 - 1e-4)).all())


def test_what_is_darker_is_smaller_and_keeps_its_order(images, tiny):
    attention, seen = classic(tiny, images)
    classes = torch.tensor([0, 1, 2, 3])
    (plain,) = attention(seen, classes)
    attention.darkness = 0.5
    (dark,) = attention(seen, classes)
    assert bool((min_max(dark).mean((1, 2)) < min_max(plain).mean((1, 2))).all())
    assert torch.equal(dark.flatten(1).argsort(1), plain.flatten(1).argsort(1))


def test_a_lone_spike_does_not_leave_everything_else_dark(images, tiny):
    """Of 120 places one is far above the rest, 10 deviations, as an artefact of a transformer can
    be: among the others the highest are still seen."""
    attention, seen = classic(tiny, images)
    found = attention._evidence(seen, torch.tensor([0, 1, 2, 3]))
    spiked = found.contrast.clone()
    spiked[:, 4, 5] = 100.0
    order, zero = standard(spiked), torch.full((4,), -1.0)  # the image as a whole speaks for it
    raw = min_max(attention._map(found._replace(contrast=spiked, zero=zero)).detach())
    assert float(order.max()) > 10
    assert float(raw[:, 4, 5].min()) == 1
    height = order - order.amin((1, 2), keepdim=True)
    below = order < HIGHEST
    assert bool((raw[below] > 2 * min_max(height)[below]).logical_or(raw[below] == 0).all())


def test_how_narrow_it_is_is_learned(images, tiny):
    attention, seen = classic(tiny, images)
    (raw,) = attention(seen, torch.tensor([0, 1, 2, 3]))
    min_max(raw).mean().backward()
    assert float(attention.narrow.weight.grad.abs()) > 0
    assert float(attention.narrow.bias.grad) < 0  # narrower, so smaller


def flattened(maps, share):
    """Maps of which each place differs from the image's mean by that share of what it did."""
    mean = maps.mean((2, 3), keepdim=True)
    return mean + share * (maps - mean)


def learned(net, images):
    """An attention whose learned part says much, and what it reads of the images."""
    attention = universal_attention(net, ["2", "4"], images, seed=3)
    with torch.no_grad():
        attention.out.weight.mul_(4)
    return attention, tiny_features(net, images)[1]


def test_where_the_classifier_says_the_same_everywhere_what_was_learned_does_not_count(
    images, tiny
):
    """As beside random weights, whose evidence can be rounding: standardised it is an order, and
    what was learned of norms and edges would make it look like an explanation."""
    attention, seen = learned(tiny, images)
    classes = torch.tensor([0, 1, 2, 3])
    fine, last = seen.values()
    dead = {"2": fine, "4": flattened(last, 3e-4)}
    found = attention._evidence(dead, classes)
    assert (found.varies < ENOUGH / 50).all()
    (raw,) = attention(dead, classes)
    (order, contrast) = (m.flatten(1).argsort(1).argsort(1) for m in (raw, found.contrast))
    assert all(corr(a, b) > 0.99 for a, b in zip(order, contrast, strict=True))


def test_where_it_does_not_what_was_learned_counts_in_full(images, tiny):
    attention, seen = learned(tiny, images)
    classes = torch.tensor([0, 1, 2, 3])
    seen["4"] = flattened(seen["4"], 20)
    found = attention._evidence(seen, classes)
    assert (found.varies == ENOUGH).all()
    hidden = attention._hidden(found)
    order = standard(attention.out(hidden)[:, 0] + found.contrast)
    (raw,) = attention(seen, classes)
    with torch.no_grad():
        attention.narrow.bias.fill_(-20)  # a straight line
    (line,) = attention(seen, classes)
    assert torch.allclose(standard(line), order, atol=1e-3)
    assert torch.equal(raw.flatten(1).argsort(1), line.flatten(1).argsort(1))
    assert not torch.allclose(standard(line), found.contrast, atol=0.1)


def corr(one, other):
    return float(torch.corrcoef(torch.stack([one, other]).float())[0, 1])


def tiny_features(net, images):
    from learnable_cam_plugin.classifier import forward_with_features

    with torch.no_grad():
        return forward_with_features(net.eval(), {"2": net[2], "4": net[4]}, images)


def attention_head(net):
    return net[8].weight.detach(), net[8].bias.detach()


def test_a_file_holds_it_and_no_number_of_a_classifier(images, tiny, tmp_path):
    attention = universal_attention(tiny, ["2", "4"], images)
    attention.save(tmp_path / "a.safetensors")
    loaded = load_attention(tmp_path / "a.safetensors")
    assert loaded.origin is None
    assert "vectors" not in loaded.state_dict()
    expected = LearnableCAM(tiny, ["2", "4"], attention=attention).saliency(images)
    found = LearnableCAM(tiny, ["2", "4"], attention=loaded).saliency(images)
    assert torch.equal(found, expected)


def test_eigen_smooth_projects_what_its_last_convolution_sums(images, tiny):
    attention = universal_attention(tiny, ["2", "4"], images)
    _, seen = tiny_features(tiny, images)
    (weighted,) = attention.weighted_features(seen, torch.tensor([0, 1, 2, 3]))
    hidden = attention._hidden(attention._evidence(seen, torch.tensor([0, 1, 2, 3])))
    assert torch.allclose(weighted.sum(1), attention.out(hidden)[:, 0], atol=1e-4)


def test_a_head_of_another_shape_is_calibrated(images):
    net = nn.Sequential(*tiny_network()[:5], nn.Flatten(), nn.Linear(8 * 10 * 12, 5))
    attention = universal_attention(net, ["2", "4"], images)
    assert attention.head is None
    assert LearnableCAM(net, ["2", "4"], attention=attention)(images).shape == (4, 20, 24)


@pytest.mark.parametrize("width", [0, 1.5, True])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(ValueError, match="width must be an integer"):
        UniversalAttention({"a": 2}, 3, width=width)


@pytest.mark.parametrize("darkness", [-0.1, 10.5, True])
def test_a_darkness_that_is_none_is_refused(darkness):
    with pytest.raises(ValueError, match="darkness must lie in"):
        UniversalAttention({"a": 2}, 3, darkness=darkness)


def test_beside_another_classifier_it_is_as_dark():
    assert UniversalAttention({"a": 2}, 3, darkness=2).beside({"b": 4}, 5, None).darkness == 2


def test_the_more_a_directions_offset_is_the_brighter_is_its_map(images, tiny):
    attention, seen = classic(tiny, images)
    direction, classes = head()[0][0], torch.zeros(4, dtype=torch.long)
    evidence_of_it = torch.einsum("nchw,c->nhw", seen["4"], direction)
    middle, step = -float(evidence_of_it.mean()), float(evidence_of_it.std()) / 2
    offsets = (middle - step, middle, middle + step)
    maps = [attention.along(direction, offset)(seen, classes)[0] for offset in offsets]
    low, even, high = (min_max(one.detach()).mean() for one in maps)
    assert low < even < high


@pytest.mark.parametrize("same", ["classes", "places"])
def test_where_nothing_is_told_apart_its_inputs_are_finite(same):
    fine, last = features()
    weight, bias = head()
    if same == "classes":
        weight, bias = weight[:1].expand(5, -1), bias[:1].expand(5)
    else:
        fine, last = torch.ones_like(fine), torch.ones_like(last)
    found = evidence([fine, last], weight, bias, CLASSES)
    assert all(bool(torch.isfinite(part).all()) for part in found)


def test_a_strip_of_places_is_compared_too():
    found = evidence(features(grids=((1, 2048), (1, 64))), *head(), CLASSES)
    assert found.maps.shape == (3, INPUTS, 1, 2048)
    assert bool(torch.isfinite(found.maps).all())


def test_lengths_beyond_what_half_precision_squares_are_told_apart():
    fine, last = (300 * maps for maps in features())
    expected = evidence([fine, last], *head(), CLASSES).maps[:, -1]
    found = evidence([fine.half(), last.half()], *head(), CLASSES).maps[:, -1]
    assert torch.allclose(found.float(), expected, atol=2e-2)


def test_a_class_that_is_left_out_does_not_compete():
    fine, last = features()
    weight, bias = head()
    without, kept = torch.full((3,), 2), torch.tensor([0, 1, 3, 4])
    found = evidence([fine, last], weight, bias, CLASSES, without=without)
    expected = evidence([fine, last], weight[kept], bias[kept], torch.tensor([0, 2, 3]))
    assert torch.allclose(found.contrast, expected.contrast, atol=1e-4)
    assert torch.allclose(found.maps[:, 3], expected.maps[:, 3], atol=1e-5)  # its probability
    two, zeros, ones = (weight[:2], bias[:2]), torch.zeros(3).long(), torch.ones(3).long()
    only = evidence([fine, last], *two, zeros, without=ones)  # the only other one does
    assert torch.equal(only.maps, evidence([fine, last], *two, zeros).maps)


def test_weights_of_classes_are_held_against_the_heaviest_ones_competitors():
    (last,) = features()[1:]
    weight, bias = head()
    weights = torch.tensor([[-0.6, 1.0, 0.0, 0.0, -0.1]]).expand(3, -1)
    others = torch.tensor([0, 2, 3, 4])  # of class 1
    p = F.linear(last.mean((2, 3)), weight, bias)[:, others].softmax(1)
    direction = weights @ weight - weights.sum(1, keepdim=True) * (p @ weight[others])
    expected = standard(torch.einsum("nchw,nc->nhw", last, direction))
    found = evidence([last], weight, bias, weights).contrast
    assert torch.allclose(found, expected, atol=1e-3)


def test_a_contrast_is_bright_where_the_class_is_seen_and_seen_rather_than_the_other(images, tiny):
    attention, seen = learned(tiny, images)
    one, other = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 3, 0, 1])
    (found,) = attention.contrast(seen, one, other)
    (plain,) = attention.among(seen, one, other)
    held = attention._map(attention._evidence(seen, one, against=other))
    assert torch.allclose(found, plain * held)


def test_of_one_score_class_1_is_what_speaks_against_it():
    attention = UniversalAttention({"a": 8}, 1)
    weight, _ = head(1)
    attention.read_head(weight, torch.tensor([-0.3]))
    seen = {"a": features()[1]}
    score = torch.einsum("nchw,c->nhw", seen["a"], weight[0]).flatten(1) - 0.3
    for index, sign in ((0, 1), (1, -1)):
        found = attention.strength(seen, torch.full((3,), index))
        assert torch.allclose(found, (sign * score).sigmoid().amax(1), atol=1e-6)


def test_the_shipped_one_gives_the_maps_that_it_gave():
    """Of commit 9f88e96: every constant of its inputs, with which it was trained, counts."""
    attention = shipped_attention().beside({"fine": 6, "last": 8}, 20, None)
    attention.read_head(*head(20))
    fine, last = features(grids=((40, 44), (5, 6)))
    with torch.no_grad():
        (raw,) = attention({"fine": fine, "last": last}, torch.tensor([3, 7, 19]))
    expected = [
        [0.2380, 0.0695, 0.2420, 0.2147, 0.1217, 0.1189],
        [0.0100, 0.0034, 0.0390, 0.0127, 0.0650, 0.0183],
        [0.7737, 0.6014, 0.3769, 0.7613, 0.0365, 0.9432],
    ]
    found = min_max(raw)[:, ::13, ::13].flatten(1)[:, ::3]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-3)


def test_of_a_head_that_is_read_anew_nothing_is_known():
    attention = UniversalAttention({"a": 8}, 5)
    attention.read_head(*head())
    scores = torch.rand(2, 5)
    assert known_of(attention, scores) == {}
    attention.scores_are_logits = True
    assert known_of(attention, scores) == {"logits": scores}
    assert known_of(attention, scores.bfloat16()) == {}  # rounded, as under autocast
    attention.read_head(*head(seed=2))
    assert known_of(attention, scores) == {}


def test_what_makes_no_maps_is_not_made():
    with pytest.raises(TypeError, match="makes no maps by itself"):
        HeadedAttention({"a": 8}, 5, None, 8)


def test_of_a_layer_and_the_pooling_after_it_the_one_that_has_places_is_read_last(images, tiny):
    assert list(universal_attention(tiny.eval(), ["5", "4"], images).channels) == ["5", "4"]


def test_a_head_of_pooling_alone_is_of_no_weights_and_belongs_to_no_classifier(images):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    attention = universal_attention(net.eval(), ["1"], images)
    assert torch.equal(attention.vectors, torch.eye(5))
    assert attention.origin is None


def test_images_are_left_as_they_are_by_a_network_that_works_in_place_on_them(images, tiny):
    net = nn.Sequential(nn.Hardtanh(0.4, 0.6, inplace=True), *tiny).eval()
    before = images.clone()
    universal_attention(net, ["3", "5"], images)
    assert torch.equal(images, before)


def test_its_weights_before_training_are_of_the_seed(images, tiny):
    one, same, other = (
        universal_attention(tiny, ["2", "4"], images, seed=seed).out.weight for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
