import pytest
import torch
from torch import nn

from learnable_cam_plugin import FrozenClassifier, LearnableCAM, calibrate, random_attention
from learnable_cam_plugin.attention.calibration import _mean_gradient

from ..networks import network, pictures


class PooledTwice(nn.Module):
    """A head of another shape: two linear layers after the pooling."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.hidden, self.out = nn.Linear(6, 7), nn.Linear(7, 4)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(self.conv(x).mean((2, 3)))))


def test_a_pooled_linear_head_is_taken_exactly(tiny, images):
    attention = calibrate(tiny, [tiny[4]], images)
    assert torch.equal(attention.weights[0], tiny[8].weight)
    assert torch.equal(attention.biases[0], tiny[8].bias)
    assert attention.origin.recipe["start"] == "head"


def test_the_calibrated_gradient_of_a_pooled_linear_head_is_its_weight(tiny, images):
    """The general way and the exact one meet where both apply."""
    tiny.eval()
    classifier = FrozenClassifier.of(tiny, ["4"])
    gradient = _mean_gradient(classifier, "4", images, images.shape[2:], progress=False)
    assert torch.allclose(gradient, tiny[8].weight, atol=1e-6)


def test_another_head_is_linearised_by_its_mean_gradient(images):
    net = PooledTwice().eval()
    attention = calibrate(net, [net.conv], images)
    pooled = net.conv(images).mean((2, 3)).detach().requires_grad_()
    scores = net.out(torch.tanh(net.hidden(pooled)))
    expected = torch.stack(
        [torch.autograd.grad(scores[:, k].sum(), pooled, retain_graph=True)[0].mean(0)
         for k in range(4)]
    )  # fmt: skip
    assert torch.allclose(attention.weights[0], expected, atol=1e-6)
    mean_score = attention.weights[0] @ pooled.detach().mean(0) + attention.biases[0]
    assert torch.allclose(mean_score, scores.detach().mean(0), atol=1e-5)


class Unbatched(torch.autograd.Function):
    """The hyperbolic tangent, whose gradients cannot be taken for many classes at once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.tanh())
        return x.tanh()

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        assert gradient.numpy().shape == y.shape  # as code does that leaves torch
        return gradient * (1 - y * y)


def test_many_classes_at_once_are_as_one_by_one(images, monkeypatch):
    """More classes than fit at once; one by one; and where an operation refuses many."""
    net = PooledTwice().eval()
    net.out = nn.Linear(7, 70)
    together = calibrate(net, [net.conv], images).weights[0]
    assert together.shape == (70, 6)
    monkeypatch.setattr("learnable_cam_plugin.attention.calibration._TOGETHER", 1)
    assert torch.allclose(calibrate(net, [net.conv], images).weights[0], together, atol=1e-7)
    monkeypatch.undo()
    monkeypatch.setattr(torch, "tanh", Unbatched.apply)
    assert torch.allclose(calibrate(net, [net.conv], images).weights[0], together, atol=1e-7)


def test_without_images_another_head_says_what_to_do(images):
    net = PooledTwice()
    cam = LearnableCAM(net, [net.conv], attention="head")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"attention=calibrate\(model, target_layers"):
            cam(images)
    LearnableCAM(net, [net.conv], attention=calibrate(net, [net.conv], images))(images)


def test_calibration_works_inside_inference_mode_and_leaves_nothing(images):
    net = PooledTwice().train()
    with torch.inference_mode():
        attention = calibrate(net, [net.conv], images)
    assert attention.weights[0].requires_grad
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())


def test_random_start_is_seeded_and_reads_the_shapes_off_the_model(tiny, images):
    torch.manual_seed(3)
    first = random_attention(tiny, ["1", "4"], images)
    torch.manual_seed(3)
    again = random_attention(tiny, ["1", "4"], images)
    assert first.channels == {"1": 6, "4": 8}
    assert first.num_classes == 5
    assert all(torch.equal(a, b) for a, b in zip(first.weights, again.weights, strict=True))


def test_tokens_as_a_grid_are_calibrated_on_the_grid():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(3, 6), nn.Linear(6, 4)

        def forward(self, x):
            return self.head(torch.tanh(self.embed(x.flatten(2).mT).mean(1)))

    net = Tokens()
    attention = calibrate(
        net, [net.embed], torch.rand(2, 3, 4, 5), lambda t: t.mT.unflatten(2, (4, 5))
    )
    assert attention.channels == {"embed": 6}


def test_a_head_told_apart_by_place_is_read_off_beside_a_layer_that_is_calibrated():
    """The layers that are found for ConvNeXt, whose last one is the linear layer itself."""
    model, images = network("convnext_tiny"), pictures()
    layers = ["features.5", "classifier.2"]
    attention = calibrate(model, layers, images)
    linear = model.classifier[2]
    assert attention.channels == {"features.5": 384, "classifier.2": 768}
    assert torch.equal(attention.weights[1], linear.weight)
    assert torch.equal(attention.biases[1], linear.bias)
    assert torch.equal(attention.weights[0], calibrate(model, layers[:1], images).weights[0])


def test_a_head_without_a_bias_is_read_with_zeros(tiny, images):
    tiny[8] = nn.Linear(8, 5, bias=False)
    attention = calibrate(tiny.eval(), ["4"], images)
    assert torch.equal(attention.weights[0], tiny[8].weight)
    assert not attention.biases[0].any()


def test_images_are_left_as_they_are_by_a_network_that_works_in_place_on_them(tiny, images):
    net = nn.Sequential(
        nn.Hardtanh(0.4, 0.6, inplace=True), *tiny[:5], nn.Flatten(), nn.Linear(960, 5)
    )
    before = images.clone()
    calibrate(net.eval(), ["5"], images)
    assert torch.equal(images, before)
