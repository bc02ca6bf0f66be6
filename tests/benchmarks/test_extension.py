"""A recipe, a mechanism, a metric and a peer that neither the package nor the benchmarks know."""

import json
import math

import pytest
import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import nn
from torch.nn import functional as F

from benchmarks.commands.compare import run_comparison
from benchmarks.methods import METHODS, Learned, Method, register_method, with_attention
from learnable_cam_plugin import AttentionMechanism, checkpoint, load_attention, register_recipe
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import METRICS, Metric, register_metric
from learnable_cam_plugin.training import RECIPES

from .small import smaller


class LowRankAttention(AttentionMechanism):
    """A row of weights a class, as the product of two small matrices."""

    def __init__(self, channels, num_classes, rank=4):
        super().__init__(channels, num_classes)
        ((self.layer, count),) = channels.items()
        self.rank = rank
        self.rows = nn.Parameter(torch.randn(num_classes, rank))
        self.columns = nn.Parameter(torch.randn(rank, count) / count**0.5)

    def settings(self):
        return {"rank": self.rank}

    def weighted_features(self, features, classes):
        self.check_features(self.layer, features[self.layer])
        weights = self.rows[classes] @ self.columns
        return [features[self.layer] * weights[:, :, None, None]]

    def forward(self, features, classes):
        return [maps.sum(1) for maps in self.weighted_features(features, classes)]


class KeepTheClass:
    """A recipe: what the map shows keeps the class, and is small."""

    name = "keep-the-class"
    terms = ("loss", "lost", "area")
    starts = ("random",)
    max_norm = 1.0

    def __init__(self, area=0.5, learning_rate=0.01):
        self.area, self.learning_rate = area, learning_rate

    def start(self, classifier, images, kind, seed, progress):
        features, scores = classifier.clean_pass(images)
        channels = {name: maps.shape[1] for name, maps in features.items()}
        torch.manual_seed(seed)
        return LowRankAttention(channels, scores.shape[1], rank=3).to(images.device)

    def step(self, classifier, images):
        def terms(attention, images, labels, seed):
            features, scores = classifier.clean_pass(images)
            classes = scores.argmax(1) if labels is None else labels
            mask = attention(features, classes)[0].sigmoid()
            masked = classifier.model(mask_image(images, mask, classifier.pixels))
            lost, area = F.cross_entropy(masked, classes), mask.mean()
            return {"loss": lost + self.area * area, "lost": lost, "area": area}

        return terms

    def make_optimizer(self, attention):
        return torch.optim.Adam(attention.parameters(), lr=self.learning_rate)

    def rate(self, done, epochs):
        return 1 - 0.9 * done / epochs

    def record(self):
        return {"area": self.area, "learning_rate": self.learning_rate}


def evenness(explained):
    """Entropy of each map, in percent of an even one's."""
    shares = F.normalize(explained.maps.flatten(1), p=1, dim=1)
    return 100 * torch.special.entr(shares).sum(1) / math.log(shares.shape[1])


EVENNESS = Metric("evenness", "entropy of the map", "lower", "my own", evenness)


class MeanActivation(BaseCAM):
    """Each feature map weighted by its own mean, whatever the class."""

    def __init__(self, model, target_layers):
        super().__init__(model, target_layers, uses_gradients=False)

    def get_cam_weights(self, input_tensor, target_layer, targets, activations, grads):
        return activations.mean((2, 3))


PEERS = (
    Method(
        "low-rank CAM",
        "learned",
        "this test",
        with_attention,
        learned=Learned("keep-the-class", "random"),
    ),
    Method(
        "mean activation",
        "gradient-free",
        "this test",
        lambda bed, _: MeanActivation(bed.model, [bed.layer]),
    ),
)


@pytest.fixture
def registered():
    register_recipe(KeepTheClass())
    register_metric(EVENNESS)
    for peer in PEERS:
        register_method(peer)
    yield
    del RECIPES["keep-the-class"], METRICS["evenness"]
    for peer in PEERS:
        del METHODS[peer.name]


def test_what_a_user_registers_is_trained_saved_loaded_scored_and_shown(
    registered, shapes, tmp_path
):
    protocol = smaller(
        "synthetic", tmp_path / "s.yaml", count=8, training={"epochs": 1, "batch_size": 64}
    )
    out = tmp_path / "out"
    checkpoint.save(out / "classifier.safetensors", shapes[0].state_dict(), {})
    names = ["low-rank CAM", "mean activation", "Grad-CAM"]
    run_comparison(protocol, out, methods=", ".join(names))

    saved = out / "attentions" / "low-rank-cam" / "attention" / "model.safetensors"
    attention = load_attention(saved)
    assert isinstance(attention, LowRankAttention)
    assert attention.rank == 3
    assert attention.origin.recipe["name"] == "keep-the-class"
    assert attention.origin.recipe["area"] == 0.5
    history = (out / "attentions" / "low-rank-cam" / "history.csv").read_text()
    assert "lost,area" in history.splitlines()[0]

    results = json.loads((out / "results.json").read_text())
    assert sorted(row["method"] for row in results["methods"]) == sorted(names)
    assert results["metrics"][-1]["key"] == "evenness"
    for row in results["methods"]:
        assert 0 < row["common"]["evenness"]["mean"] < 100
        assert row["common"]["evenness"]["n"] == 3
    low_rank = next(row for row in results["methods"] if row["method"] == "low-rank CAM")
    assert (low_rank["forward"], low_rank["backward"]) == (1, 0)
    for name in ("results.md", "report.html"):
        text = (out / name).read_text()
        assert all(shown in text for shown in ("low-rank CAM", "mean activation", "evenness"))


def test_names_that_are_taken_are_refused(registered):
    for register, entry in (
        (register_recipe, KeepTheClass()),
        (register_metric, EVENNESS),
        (register_method, PEERS[0]),
    ):
        with pytest.raises(ValueError, match="already"):
            register(entry)
