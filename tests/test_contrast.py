"""One class rather than another, and maps on one scale, in both interfaces."""

import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from learnable_cam_plugin import (
    ContrastTarget,
    InputLearnableCam,
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
)
from learnable_cam_plugin.attention import AttentionMechanism, shipped_attention
from learnable_cam_plugin.attention.evidence import evidence, standard
from learnable_cam_plugin.saliency import min_max, resize

from .conftest import tiny_network


def head_of(model: nn.Module) -> nn.Linear:
    return model[-1]


@pytest.fixture
def last(tiny, images):
    """The maps that the head pools, (N, 8, 10, 12)."""
    with torch.no_grad():
        return tiny.eval()[:5](images)


def test_the_evidence_is_the_difference_of_the_two_rows_of_the_head(tiny, last):
    head = head_of(tiny)
    one, other = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 3, 0, 1])
    found = evidence([last], head.weight, head.bias, one, against=other)
    rows = head.weight[one] - head.weight[other]
    expected = torch.einsum("nc,nchw->nhw", rows, last)
    torch.testing.assert_close(found.contrast, standard(100 * expected), atol=2e-2, rtol=1e-2)


def test_classic_cam_of_a_contrast_is_the_difference_of_the_two_maps(tiny, images):
    """As in the paper's linear case, a map is linear in the classes: v_A - v_B."""
    captum = LayerLearnableCam(tiny, tiny[4], "head")
    one, other = (captum.attribute(images, target=c) for c in (3, 1))
    torch.testing.assert_close(captum.attribute(images, target=(3, 1)), one - other)


def test_it_is_grad_cams_of_the_same_target_where_that_is_above_zero(tiny, images):
    """Behind pooling and a linear head, Grad-CAM's weights of A - B are v_A - v_B, too."""
    raw = LayerLearnableCam(tiny, tiny[4], "head").attribute(images, target=(1, 3)).relu()
    bias = head_of(tiny).bias
    raw = (raw - (bias[1] - bias[3]) * (raw > 0)).relu()  # Grad-CAM leaves the bias out
    ours = min_max(resize(min_max(raw[:, 0]), images.shape[2:]))
    tiny.eval()
    with GradCAM(tiny, [tiny[4]]) as cam:
        theirs = torch.from_numpy(cam(images, [ContrastTarget(1, 3)] * 4))
    seen = [(a, b) for a, b in zip(ours, theirs, strict=True) if b.std() > 0.05]
    assert len(seen) >= 2
    for a, b in seen:
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.95


def test_each_image_has_a_pair_of_its_own(tiny, images):
    pairs = [(0, 1), (1, 0), (2, 4), (-1, 0)]
    with LearnableCAM(tiny) as cam:
        together = cam(images, [ContrastTarget(*pair) for pair in pairs])
        for image, pair, expected in zip(images, pairs, together, strict=True):
            alone = cam(image[None], [ContrastTarget(*pair)])
            assert abs(alone[0] - expected).max() < 1e-4


def test_a_against_b_is_not_b_against_a(tiny, images):
    with LearnableCAM(tiny) as cam:
        one = cam(images, [ContrastTarget(3, 1)] * 4)
        other = cam(images, [ContrastTarget(1, 3)] * 4)
    assert abs(one - other).mean() > 0.05


def test_it_takes_one_pass_of_the_classifier_and_no_gradient(tiny, images):
    runs = []
    tiny[0].register_forward_hook(lambda *_: runs.append(1))
    with LearnableCAM(tiny) as cam:
        cam(images)
        runs.clear()
        cam(images, [ContrastTarget(3, 1)] * 4)
        assert len(runs) == 1
        cam.comparable(images)
        assert len(runs) == 2
    assert all(p.grad is None for p in tiny.parameters())


def test_captum_takes_a_pair_for_all_or_one_an_image(tiny, images):
    captum = LayerLearnableCam(tiny, tiny[4])
    for_all = captum.attribute(images, target=(3, 1))
    torch.testing.assert_close(captum.attribute(images, target=[(3, 1)] * 4), for_all)
    with LearnableCAM(tiny, [tiny[4]]) as cam:
        ours = cam.saliency(images, [ContrastTarget(3, 1)] * 4)
    shown = InputLearnableCam(tiny, tiny[4]).attribute(images, target=(3, 1))
    torch.testing.assert_close(shown[:, 0], ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("target", [(3, 3), [(0, 1), (1, 0), (2, 2), (3, 0)], (4, -1)])
def test_a_class_against_itself_is_refused(tiny, images, target):
    pairs = target if isinstance(target, list) else [target] * 4
    with pytest.raises(ValueError, match="held against itself"):
        LayerLearnableCam(tiny, tiny[4]).attribute(images, target=target)
    with pytest.raises(ValueError, match="held against itself"), LearnableCAM(tiny) as cam:
        cam(images, [ContrastTarget(*pair) for pair in pairs])


def test_some_contrasts_in_a_batch_are_refused(tiny, images):
    targets = [ContrastTarget(3, 1)] * 3 + [ClassifierOutputTarget(0)]
    with pytest.raises(ValueError, match="in a call of their own"), LearnableCAM(tiny) as cam:
        cam(images, targets)


def test_a_class_out_of_range_is_refused(tiny, images):
    with pytest.raises(IndexError), LearnableCAM(tiny) as cam:
        cam(images, [ContrastTarget(3, 5)] * 4)


def test_a_mechanism_that_cannot_says_so(tiny, images):
    class Plain(AttentionMechanism):
        def forward(self, features, classes):
            return [maps.mean(1) for maps in features.values()]

    with pytest.raises(TypeError, match="a Plain cannot contrast"):
        Plain({"4": 8}, 5).contrast(
            {"4": torch.rand(2, 8, 3, 3)}, torch.tensor([0]), torch.tensor([1])
        )


def test_a_direction_of_the_heads_space_is_a_class_of_its_own(tiny, images):
    """Any direction, such as a concept's: where the features lie along it, and not elsewhere."""
    with LearnableCAM(tiny) as cam:
        cam(images)
        attention = cam.attention
    _, name = list(attention.channels), list(attention.channels)[-1]
    direction = torch.zeros(8)
    direction[5] = 1.0
    maps = {layer: torch.rand(2, c, 10, 12) for layer, c in attention.channels.items()}
    maps[name][:, 5] = 0.0
    maps[name][:, 5, 2:5, 3:6] = 8.0
    found = attention.along(direction)(maps, torch.zeros(2, dtype=torch.long))[0]
    inside = found[:, 2:5, 3:6].mean()
    assert inside > 1.5 * found.mean()


# Maps on one scale


def test_their_highest_place_is_the_heads_probability_of_the_class_there(tiny, images, last):
    with LearnableCAM(tiny) as cam:
        found = cam.comparable(images, [ClassifierOutputTarget(2)] * 4)
        scaled = cam.saliency(images, [ClassifierOutputTarget(2)] * 4)
    local = nn.functional.linear(last.movedim(1, -1), head_of(tiny).weight, head_of(tiny).bias)
    expected = local.softmax(-1)[..., 2].flatten(1).amax(1)
    torch.testing.assert_close(found.flatten(1).amax(1), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(min_max(found), scaled, atol=1e-5, rtol=1e-4)


def test_of_a_contrast_it_is_the_share_of_the_two(tiny, images, last):
    with LearnableCAM(tiny) as cam:
        found = cam.comparable(images, [ContrastTarget(2, 0)] * 4)
    local = nn.functional.linear(last.movedim(1, -1), head_of(tiny).weight, head_of(tiny).bias)
    expected = (local[..., 2] - local[..., 0]).sigmoid().flatten(1).amax(1)
    torch.testing.assert_close(found.flatten(1).amax(1), expected, atol=1e-5, rtol=1e-4)


def test_an_attention_that_does_not_read_the_head_has_no_such_scale(tiny, images):
    attention = LCAMAttention({"4": 8}, 5)
    with (
        pytest.raises(TypeError, match="does not read the classifier's head"),
        LearnableCAM(tiny, [tiny[4]], attention=attention) as cam,
    ):
        cam.comparable(images)


def test_the_class_of_one_score_is_on_the_scale_of_its_probability(images):
    model = tiny_network(1).eval()
    with LearnableCAM(model) as cam:
        found = cam.comparable(images)
    assert found.shape == (4, 20, 24)
    assert bool(((found >= 0) & (found <= 1)).all())


def test_several_classes_of_an_image_as_one_each(tiny, images):
    with LearnableCAM(tiny) as cam:
        cam(images)
        attention, (_, features, _) = cam.attention, cam.activations_and_grads._read(images)
    one, other = torch.tensor([[0, 1]] * 4), torch.tensor([[2, 0]] * 4)
    several = attention.contrast(features, one, other)[0]
    strength = attention.strength(features, one, other)
    for i in range(2):
        alone = attention.contrast(features, one[:, i], other[:, i])[0]
        torch.testing.assert_close(several[:, i], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            strength[:, i], attention.strength(features, one[:, i], other[:, i])
        )


def test_the_shipped_attention_can(tiny):
    assert shipped_attention().contrasts
