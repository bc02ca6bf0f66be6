"""No NaN or infinity gets into an attention or onto the disk, and the error names its cause."""

import dataclasses

import accelerate
import pytest
import torch
from torch import nn

from learnable_cam_plugin import RECIPES, LearnableCAMTrainer, checkpoint
from learnable_cam_plugin.training.finite import Kept

from ..conftest import UNIT, tiny_network


def pixels(n=4, seed=0):
    return torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(seed))


def batches():
    return [pixels(seed=seed) for seed in range(4)]


class Spoilt:
    """The paper's recipe, in which `spoil(terms, maps)` changes a step's terms from a step on."""

    def __init__(self, spoil=None, first=2, recipe=RECIPES["l-cam-img"]):
        self.spoil, self.left, self.recipe = spoil, first, recipe

    def __getattr__(self, name):
        return getattr(self.recipe, name)

    def step(self, classifier, images):
        inner = self.recipe.step(classifier, images)

        def terms(attention, images, labels, seed):
            found = inner(attention, images, labels, seed)
            self.left -= 1
            if self.spoil and self.left <= 0:
                features, scores = classifier.clean_pass(images)
                self.spoil(found, attention(features, scores.argmax(1))[0])
            return found

        return terms


def root_at_zero(terms, maps):
    """A loss of 0, and a gradient of 0 times infinity."""
    terms["loss"] = terms["loss"] + (maps * 0).sum().sqrt()


def trainer(recipe, **options):
    options = {"normalization": UNIT, "epochs": 2, "progress": False, "device": "cpu", **options}
    model = options.pop("model", None) or tiny_network()
    return LearnableCAMTrainer(model, ["4"], recipe=recipe, **options)


def same(one, other):
    return all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def test_a_gradient_that_is_not_finite_is_named_and_spoils_nothing(tmp_path):
    options = {"output_dir": tmp_path, "checkpoint_every": 1}
    t = trainer(Spoilt(root_at_zero, first=3), **options)
    with pytest.raises(FloatingPointError) as raised:
        t.fit(batches())
    for part in ("the gradient of weights.0, biases.0", "epoch 1, step 3", "'l-cam-img'", "root"):
        assert part in str(raised.value)

    one_step_less = trainer("l-cam-img", epochs=1).fit(batches()[:2])
    assert same(t.attention, one_step_less)
    tensors, record = checkpoint.load(tmp_path / "training.safetensors")
    assert record["training"]["step"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())
    mended = trainer("l-cam-img", **options).fit(batches(), resume=True)
    assert same(mended, trainer("l-cam-img").fit(batches()))


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_it_is_named_where_gradients_are_clipped_too(max_norm):
    """Clipping divides all gradients by their norm, and so spoils those that were fine."""
    recipe = dataclasses.replace(RECIPES["l-cam-fm"], max_norm=max_norm)
    t = trainer(Spoilt(root_at_zero, recipe=recipe))
    with pytest.raises(FloatingPointError, match=r"the gradient of weights.0.* epoch 1, step 2"):
        t.fit(batches())
    assert same(t.attention, trainer(recipe, epochs=1).fit(batches()[:1]))


def test_a_step_that_overflows_is_taken_back():
    class Steep(Spoilt):
        def make_optimizer(self, attention):
            return torch.optim.SGD(attention.parameters(), lr=1e38, momentum=0.0)

        def rate(self, done, epochs):
            return 1.0 if done else 1e-40  # from the second step on

    def large(terms, _maps):
        terms["loss"] = terms["loss"] * 1e4

    t = trainer(Steep(large))
    with pytest.raises(FloatingPointError, match=r"weights.0.* not finite after epoch 1, step 2"):
        t.fit(batches())
    assert all(bool(torch.isfinite(p).all()) for p in t.attention.parameters())
    assert same(t.attention, trainer(Steep(), epochs=1).fit(batches()[:1]))


def test_the_term_that_is_not_finite_is_named():
    def spoil(terms, _maps):
        terms["average_variation"] = terms["average_variation"] * torch.inf
        terms["loss"] = terms["loss"] + terms["average_variation"]

    t = trainer(Spoilt(spoil))
    with pytest.raises(FloatingPointError, match=r"step 2: .*not finite is average_variation\."):
        t.fit(batches())
    assert same(t.attention, trainer("l-cam-img", epochs=1).fit(batches()[:1]))


def test_images_for_which_the_classifier_itself_is_not_finite_are_named():
    class Fragile(nn.Module):
        """NaN where the first pixel is bright."""

        def __init__(self):
            super().__init__()
            self.inner = tiny_network()

        def forward(self, x):
            return self.inner(x) + (0.9 - x[:, :1, 0, 0]).sqrt()

    data = batches()
    for images in data:
        images[:, 0, 0, 0] = 0.5
    data[2][[1, 3], 0, 0, 0] = 0.95
    t = LearnableCAMTrainer(
        Fragile(), ["inner.4"], recipe="l-cam-img", normalization=UNIT, progress=False, device="cpu"
    )
    message = r"epoch 1, step 3: the classifier's own scores of the images \[1, 3\] of the batch"
    with pytest.raises(FloatingPointError, match=message):
        t.fit(data)  # the mask dims that pixel, so that the loss is finite
    assert all(bool(torch.isfinite(p).all()) for p in t.attention.parameters())


# fp16 skips steps whose gradient overflows, and lowers the loss's scale


@pytest.fixture
def scaled(monkeypatch):
    """As on a GPU in fp16: a loss that is scaled, by 65536 at first."""

    class Scaled(accelerate.Accelerator):
        def __init__(self, **options):
            super().__init__(**options)
            self.scaler = torch.amp.GradScaler("cpu")

    monkeypatch.setattr(accelerate, "Accelerator", Scaled)


@pytest.mark.usefixtures("scaled")
def test_steps_that_fp16_skips_do_not_stop_a_training(tmp_path):
    def large(terms, _maps):
        if recipe.left == 0:  # once
            terms["loss"] = terms["loss"] * 1e36

    recipe = Spoilt(large)
    t = trainer(recipe, output_dir=tmp_path)
    attention = t.fit(batches())
    assert all(bool(torch.isfinite(p).all()) for p in attention.parameters())
    _, record = checkpoint.load(tmp_path / "training.safetensors")
    assert record["training"]["scaler"]["scale"] == 32768  # a resumed training goes on with it


@pytest.mark.usefixtures("scaled")
def test_a_training_of_which_every_step_is_skipped_is_stopped():
    t = trainer(Spoilt(root_at_zero, first=1), epochs=10)
    with pytest.raises(FloatingPointError, match="fp16 skipped 24 steps in a row, up to epoch 6"):
        t.fit(batches())


def test_what_the_optimiser_remembers_is_looked_at_too():
    attention = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(attention.parameters())
    attention(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    kept = Kept(attention)
    kept.check(optimizer, "step 1", 0.1)
    optimizer.state[attention.weight]["exp_avg"].fill_(torch.nan)
    with pytest.raises(
        FloatingPointError, match="exp_avg of weight in the optimiser is not finite"
    ):
        kept.check(optimizer, "step 1", 0.1)
