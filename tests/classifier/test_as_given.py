"""Classifiers that do more than their parts say: in place, in a subclass, behind a transform."""

import warnings

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer
from torchvision.transforms import Normalize, Resize

from learnable_cam_plugin import ExplainedClassifier, LearnableCAM
from learnable_cam_plugin.classifier import class_indices

TARGET = [ClassifierOutputTarget(1)]


def network(*head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    body = (nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
    pooled = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return pooled.extend(head or (nn.Linear(32, 5),)).eval()


def pixels(count: int = 4, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("flat", [False, True], ids=["pooled", "linearised"])
@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_a_model_that_works_in_place_on_its_images_runs_on_them_once(flat):
    """A first call looks at the model by several passes; each has images of its own."""

    def made(inplace: bool) -> nn.Sequential:
        inner = network()
        if flat:
            inner = nn.Sequential(*inner[:4], nn.Flatten(), nn.Linear(2048, 5))
        torch.manual_seed(2)
        for parameter in inner[-1].parameters():
            nn.init.normal_(parameter, std=0.1)
        return nn.Sequential(Normalize([0.5] * 3, [0.25] * 3, inplace=inplace), inner).eval()

    with torch.no_grad():
        scores = made(inplace=False)(pixels())
    cam = LearnableCAM(made(inplace=True))
    found = cam(pixels(), TARGET)
    assert torch.equal(cam.outputs, scores)
    np.testing.assert_allclose(found, LearnableCAM(made(False))(pixels(), TARGET), atol=1e-4)


class Cosine(nn.Linear):
    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return 10 * F.linear(F.normalize(given), F.normalize(self.weight))


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_a_linear_layer_that_does_more_than_its_weight_is_not_read_as_one():
    """A scale of a cosine head's row changes no score, and so no map."""
    model = network(Cosine(32, 3, bias=False))
    before = LearnableCAM(model)(pixels(), TARGET)
    with torch.no_grad():
        model[-1].weight[1] *= 50
    np.testing.assert_allclose(LearnableCAM(model)(pixels(), TARGET), before, atol=1e-3)


class Turned(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images).neg_()


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_scores_that_are_changed_in_place_are_not_what_the_head_gave():
    model, plain = network(), network()
    with torch.no_grad():
        plain[-1].weight.neg_()
        plain[-1].bias.neg_()
    expected = LearnableCAM(plain)(pixels(), TARGET)
    cam = LearnableCAM(Turned(model))
    np.testing.assert_allclose(cam(pixels(), TARGET), expected, atol=1e-3)
    assert cam.attention.head is None  # linearised: exact here
    with pytest.raises(ValueError, match="one linear layer"):
        LearnableCAM(Turned(model), [model[2]], attention="head")(pixels(), TARGET)


def test_a_network_behind_a_resize_is_read_by_the_proportions_that_it_sees():
    inner, square = network(), Resize((48, 48))
    images = pixels(2, 48, 80)
    found = LearnableCAM(nn.Sequential(square, inner))(images, TARGET)
    seen = torch.from_numpy(LearnableCAM(inner)(square(images), TARGET))[:, None]
    stretched = F.interpolate(seen, (48, 80), mode="bilinear")[:, 0].numpy()
    assert found.shape == stretched.shape
    pairs = zip(found, stretched, strict=True)
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs) > 0.99


def test_tokens_of_images_that_the_model_makes_square_are_arranged_as_it_has_them():
    """Whichever images were explained before, and in the graph: 14 x 14 tokens are 7 x 28, too."""
    torch.manual_seed(0)
    vit = VisionTransformer(56, 4, 2, 4, 32, 64, num_classes=5).eval()
    nn.init.normal_(vit.heads.head.weight)
    square = Resize((56, 56))
    model, images = nn.Sequential(square, vit), pixels(2, 40, 160)
    seen = torch.from_numpy(LearnableCAM(vit)(square(images), TARGET))[:, None]
    stretched = F.interpolate(seen, (40, 160), mode="bilinear")[:, 0].numpy()
    cam = LearnableCAM(model)
    cam(pixels(2, 56, 56), TARGET)
    explained = ExplainedClassifier(model, pixels(2, 56, 56))
    classes = torch.full((2,), TARGET[0].category)
    for found in (cam(images, TARGET), explained(images, classes)[1].numpy()):
        pairs = zip(found, stretched, strict=True)
        assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs) > 0.99


class TwoStreams(nn.Module):
    """Two branches; what the second says hardly counts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = network()[:4], network()[:4], nn.Linear(64, 5)
        with torch.no_grad():
            self.head.weight[:, 32:] *= 1e-4
            for parameter in self.second.parameters():
                nn.init.normal_(parameter, std=0.2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(
            torch.cat([part(images).mean((2, 3)) for part in (self.first, self.second)], 1)
        )


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_of_two_branches_the_named_one_is_explained():
    model = TwoStreams().eval()
    with torch.no_grad():
        weight = model.head.weight[:, :32]
        alone = nn.Sequential(model.first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))
        alone[-1].weight.copy_(weight)
        alone[-1].bias.copy_(model.head.bias)
    expected = LearnableCAM(alone.eval(), [model.first])(pixels(), TARGET)
    found = LearnableCAM(model, [model.first])(pixels(), TARGET)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


class Prompted(nn.Module):
    """A transformer with tokens of its own before those of patches, whose mean is classified."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.patch, self.prompts = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, extra, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.blocks, self.head = nn.Sequential(layer, nn.LayerNorm(16)), nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.patch(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prompts.expand(len(images), -1, -1), patches], 1)
        return self.head(self.blocks(tokens)[:, self.prompts.shape[1] :].mean(1))


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_tokens_that_make_another_grid_than_the_patches_are_refused():
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="273 tokens, 16 x 16 of patches and 17 others"):
        LearnableCAM(Prompted(17).eval())(pixels(2, 64, 64), TARGET)
    assert LearnableCAM(Prompted(5).eval())(pixels(2, 64, 64), TARGET).shape == (2, 64, 64)


def test_classes_below_0_count_from_the_last_and_others_are_refused():
    assert class_indices(torch.tensor([0, -1]), 10).tolist() == [0, 9]
    for index in (-11, 10):
        with pytest.raises(IndexError, match=f"{index} is out of range"):
            class_indices(torch.tensor([0, index]), 10)


class Less:
    """A counterfactual target, as users write them."""

    category = 1

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        return -scores[..., self.category]


class More(Less):
    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        return scores.log_softmax(-1)[..., self.category]


def test_a_users_target_that_asks_for_less_of_its_class_is_refused():
    model = network()
    with pytest.raises(TypeError, match="Less names no class"):
        LearnableCAM(model)(pixels(), [Less()])
    expected = LearnableCAM(model)(pixels(), TARGET)
    np.testing.assert_array_equal(LearnableCAM(model)(pixels(), [More()]), expected)


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_a_single_probability_is_told_from_a_logit():
    logit = network(nn.Linear(32, 1))
    with pytest.warns(UserWarning, match="without its sigmoid"):
        LearnableCAM(nn.Sequential(*logit, nn.Sigmoid()))(pixels())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LearnableCAM(logit)(pixels())


class Ordered(nn.Module):
    """As CORAL: one weight, and a threshold a class."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.above = network(nn.Linear(32, 1)), nn.Parameter(torch.arange(4.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.score(images) + self.above


@pytest.mark.filterwarnings("ignore:the head of:UserWarning")
def test_classes_that_no_place_tells_apart_are_told_of():
    with pytest.warns(UserWarning, match="all 4 classes of Ordered have the same weights"):
        LearnableCAM(Ordered().eval())(pixels(), TARGET)
