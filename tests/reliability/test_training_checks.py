"""What would spoil a training is found before its first step; after it, nothing is lost."""

import csv
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from learnable_cam_plugin import (
    RECIPES,
    LearnableCAM,
    LearnableCAMTrainer,
    checkpoint,
    load_attention,
)
from learnable_cam_plugin.attention import Origin
from learnable_cam_plugin.classifier import FrozenClassifier
from learnable_cam_plugin.training.checks import check_clean_pass

from ..conftest import UNIT, tiny_network
from .test_training_finite import Spoilt, batches, pixels, same

ROOT = Path(__file__).resolve().parents[2]


def trainer(model=None, layers=("4",), recipe="l-cam-img", **options):
    options = {"normalization": UNIT, "epochs": 2, "progress": False, "device": "cpu", **options}
    return LearnableCAMTrainer(model or tiny_network(), layers, recipe=recipe, **options)


# Arguments


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epochs", value) for value in (0, -1, 1.5, 2.0, float("nan"), float("inf"), "3", True)),
        *(("patience", value) for value in (-1, 0, 1.5, "2", False)),
        *(("seed", value) for value in (-1, 2**32, 0.5, None, "0", True)),
        *(("checkpoint_every", value) for value in (0, -5, 0.5, "1", True)),
        *(("device", value) for value in ("tpu", "cuda", "CPU", 0, torch.device("cpu"))),
        *(("mixed_precision", value) for value in ("fp8", "float16", None, 16, True)),
        *(("labels", value) for value in ("mine", None, ["dataset"])),
        *(("progress", value) for value in ("no", None, 1)),
        ("reshape_transform", "vit"),
        ("output_dir", 3),
    ],
)
def test_an_argument_out_of_its_range_is_named(name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be|PathLike"):
        trainer(**{name: value})


def test_whole_numbers_of_other_libraries_do():
    counts = {"epochs": np.int64(1), "seed": np.int64(3), "checkpoint_every": np.int32(1)}
    assert same(trainer(**counts).fit(batches()), trainer(epochs=1, seed=3).fit(batches()))


# The folder


@pytest.mark.parametrize("inside", [False, True])
def test_a_folder_that_cannot_be_written_to_is_found_before_the_first_step(tmp_path, inside):
    file = tmp_path / "file"
    file.write_text("mine")
    t = trainer(output_dir=file / "inside" if inside else file)
    with pytest.raises(OSError, match=r"output_dir cannot be written to .*file"):
        t.fit(batches())
    assert (t.attention, file.read_text()) == (None, "mine")


def test_a_folder_in_which_no_file_can_be_made_is_found_before_the_first_step():
    if not Path("/proc/self").is_dir():
        pytest.skip("needs a folder in which nobody can make files")
    t = trainer(output_dir="/proc/self")
    with pytest.raises(OSError, match=r"output_dir cannot be written to .*/proc/self"):
        t.fit(batches())
    assert t.attention is None


def test_a_training_that_never_began_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="loader is empty"):
        trainer(output_dir=tmp_path / "a" / "b").fit([])
    assert list(tmp_path.iterdir()) == []


HOLDER = """
import sys, time
from tests.reliability.test_training_checks import *
class Waits(list):
    rounds = 0
    def __iter__(self):
        self.rounds += 1
        for batch in list.__iter__(self):
            if self.rounds > 3:  # two looks, and the first epoch
                print("waiting", flush=True)
                time.sleep(600)
            yield batch
trainer(output_dir=sys.argv[1]).fit(Waits(batches()))
"""


def test_two_trainings_in_one_folder_are_refused_and_a_killed_one_holds_nothing(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "waiting\n"
        found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for resume in (False, True):
            with pytest.raises(RuntimeError, match=rf"process {holder.pid} on .*another output_"):
                trainer(output_dir=tmp_path).fit(batches(), resume=resume)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == found
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    resumed = trainer(output_dir=tmp_path).fit(batches(), resume=True)
    assert same(resumed, trainer().fit(batches()))
    assert not [path for path in tmp_path.iterdir() if "lock" in path.name]


def test_a_package_that_is_missing_is_named_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    t = trainer(output_dir=tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"accelerate is missing.*\[train\]"):
        t.fit(batches())
    assert t.history == []


# The classifier


@pytest.mark.parametrize("block", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("recipe", ["l-cam-img", "l-cam-fm", "every-threshold"])
def test_a_training_inside_a_block_without_gradients_is_the_one_outside(block, recipe):
    expected = trainer(recipe=recipe).fit(batches(), batches())
    inside = trainer(recipe=recipe)
    with block():
        assert same(inside.fit(batches(), batches()), expected)
        assert not torch.is_grad_enabled()
    assert all(parameter.requires_grad for parameter in expected.parameters())


def test_a_classifier_made_in_inference_mode_is_refused_and_left_as_it_was():
    with torch.inference_mode():
        model = tiny_network()
    with pytest.raises(ValueError, match=r"made inside torch.inference_mode\(\)"):
        trainer(model).fit(batches())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("recipe", ["l-cam-img", "every-threshold"])
def test_a_classifier_that_gives_probabilities_is_refused(recipe):
    net = tiny_network()
    with pytest.raises(ValueError, match=r"the model gives probabilities .*torch.log"):
        trainer(nn.Sequential(*net, nn.Softmax(1)), recipe=recipe).fit(batches())
    logits = trainer(nn.Sequential(*net, nn.LogSoftmax(1)), recipe="l-cam-img").fit(batches())
    assert logits.num_classes == 5


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_classifier_in_half_precision_is_refused(kind):
    model = tiny_network().to(kind)
    for images in (batches(), [batch.to(kind) for batch in batches()]):
        with pytest.raises(ValueError, match=r"the classifier is in .*model.float\(\)"):
            trainer(model).fit(images)
    assert next(model.parameters()).dtype == kind


def deeper(strides=(1, 2)):
    """A network of two stages, both of 8 channels."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, strides[0], 1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, strides[1], 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    )


def test_the_layer_that_the_head_reads_must_come_last():
    wrong = trainer(deeper(), ["3", "1"], recipe="every-threshold")
    with pytest.raises(ValueError, match=r"that is '3', so pass \['1', '3'\]"):
        wrong.fit(batches())
    trainer(deeper(), ["1", "3"], recipe="every-threshold", epochs=1).fit(batches())
    trainer(deeper(), ["3", "1"], recipe="l-cam-img", epochs=1).fit(batches())  # no order there
    # a later stage may be as fine, or finer
    trainer(deeper((2, 1)), ["1", "3"], recipe="every-threshold", epochs=1).fit(batches())


def test_an_order_that_is_likely_wrong_is_warned_of_where_the_head_does_not_tell():
    torch.manual_seed(0)
    body, head = deeper()[:4], (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5))
    model = nn.Sequential(*body, *head)
    with pytest.warns(UserWarning, match=r"\['3'\] have a coarser grid than '1'"):
        trainer(model, ["3", "1"], recipe="every-threshold", epochs=1).fit(batches())


class Last(nn.Module):
    """Channels last, as in Swin transformers."""

    def __init__(self, channels, size=4):
        super().__init__()
        self.patches = nn.Conv2d(3, channels, size, size)

    def forward(self, x):
        return self.patches(x).relu().permute(0, 2, 3, 1)


class Pool(nn.Module):
    def forward(self, x):
        return x.mean((1, 2))


@pytest.mark.parametrize("recipe", ["l-cam-img", "l-cam-fm", "every-threshold"])
@pytest.mark.parametrize("size", [(20, 24), (24, 24)])
def test_channels_that_come_last_are_not_read_as_a_grid(recipe, size):
    torch.manual_seed(0)
    images = torch.rand(4, 3, *size)
    few = nn.Sequential(Last(4), Pool(), nn.Linear(4, 5))
    with pytest.raises(ValueError, match=r"4 channels come last.*permute\(0, 3, 1, 2\)"):
        trainer(few, ["0"], recipe=recipe).fit([images])
    if recipe != "l-cam-fm":
        reshaped = trainer(
            few, ["0"], recipe=recipe, reshape_transform=lambda x: x.permute(0, 3, 1, 2)
        )
        assert reshaped.fit([images]).channels == {"0": 4}
    # where they are more than a side of the grid, it is plain what they are
    many = trainer(nn.Sequential(Last(12), Pool(), nn.Linear(12, 5)), ["0"], recipe=recipe)
    if recipe != "l-cam-fm":
        assert many.fit([images]).channels == {"0": 12}
    else:
        with pytest.raises(ValueError, match="L-CAM-Fm multiplies the layer's own output"):
            many.fit([images])


# Gradients


class Without(nn.Module):
    """A classifier whose own forward takes no gradients, as exported wrappers do."""

    def __init__(self, block):
        super().__init__()
        self.inner, self.block = tiny_network(), block

    def forward(self, x):
        with self.block():
            return self.inner(x)


@pytest.mark.parametrize("block", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("recipe", ["l-cam-img", "l-cam-fm", "every-threshold"])
def test_a_classifier_that_passes_no_gradient_on_is_refused(block, recipe):
    t = trainer(Without(block), ["inner.4"], recipe=recipe)
    with pytest.raises(ValueError, match=r"no gradient gets from .* the classifier's forward"):
        t.fit(batches())
    assert t.attention is None


class Backbone(nn.Module):
    """The stages run without gradients, what follows them with."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_network()

    def forward(self, x):
        with torch.no_grad():
            maps = self.inner[:4](x)
        return self.inner[4:](maps)


def test_a_backbone_without_gradients_trains_where_the_mask_comes_after_it():
    with pytest.raises(ValueError, match="no gradient gets from"):
        trainer(Backbone(), ["inner.4"]).fit(batches())
    expected = trainer(recipe="l-cam-fm").fit(batches())
    trained = trainer(Backbone(), ["inner.4"], recipe="l-cam-fm").fit(batches())
    assert torch.equal(trained.weights[0], expected.weights[0])


def test_a_recipe_that_teaches_nothing_is_refused():
    def cut(terms, _maps):
        terms["loss"] = terms["loss"].detach()

    def elsewhere(terms, _maps):
        terms["loss"] = torch.ones((), requires_grad=True) * 2

    def zero(terms, _maps):
        terms["loss"] = terms["loss"] * 0

    for spoil, message in (
        (cut, r"no gradient gets from \['loss'\] to the attention: the recipe 'l-cam-img'"),
        (elsewhere, "the gradient reached none of its parameters"),
        (zero, "the gradient is zero at all its parameters"),
    ):
        t = trainer(recipe=Spoilt(spoil, first=1))
        with pytest.raises(ValueError, match=message):
            t.fit(batches())
        assert t.attention is None


# Nothing is lost


class Fails(list):
    """A list of batches that raises an error before a batch of an epoch."""

    def __init__(self, error, epoch, batch, looks=1):
        super().__init__(batches())
        self.error, self.left, self.batch = error, epoch + looks, batch

    def __iter__(self):
        self.left -= 1
        for i, batch in enumerate(list.__iter__(self)):
            if not self.left and i == self.batch:
                raise self.error
            yield batch


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), torch.OutOfMemoryError("CUDA out of memory"), OSError("a broken image")],
    ids=lambda error: type(error).__name__,
)
def test_what_was_trained_is_there_after_any_error(error, tmp_path):
    model = tiny_network().train()
    t = trainer(model)
    with pytest.raises(type(error)):
        t.fit(Fails(error, epoch=2, batch=3), batches())
    assert [row["epoch"] for row in t.history] == [0, 1]
    assert not t.attention.training
    assert t.attention.origin.recipe["epochs"] == 1
    assert "validation" not in t.attention.origin.recipe  # of this very attention there is none
    three = trainer(epochs=2).fit(Cut([4, 3]))
    assert same(t.attention, three)
    LearnableCAM(model, [model[4]], attention=t.attention)(pixels())
    t.attention.save_pretrained(tmp_path / "rescued")
    assert same(load_attention(tmp_path / "rescued"), three)


class Cut(list):
    """Gives so many batches in each epoch; it says that there are four, as there were."""

    def __init__(self, counts):
        super().__init__(batches())
        self.counts = [1, *counts]

    def __iter__(self):
        yield from batches()[: self.counts.pop(0)]


def test_there_is_nothing_before_the_first_step():
    t = trainer()
    t.fit(batches())
    assert (t.attention is None, len(t.history)) == (False, 2)
    with pytest.raises(KeyboardInterrupt):
        t.fit(Fails(KeyboardInterrupt(), epoch=1, batch=0))
    assert (t.attention, t.history) == (None, [])


def test_a_full_disk_leaves_the_last_state_and_what_was_trained(tmp_path, monkeypatch):
    save, saves = checkpoint.save, []

    def full(path, tensors, record):
        saves.append(path)
        if len(saves) == 3:
            raise OSError(28, "No space left on device", str(path))
        save(path, tensors, record)

    t = trainer(output_dir=tmp_path, checkpoint_every=1)
    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match=r"No space left on device: .*training\.safetensors"):
        t.fit(batches())
    monkeypatch.undo()
    assert same(t.attention, trainer(epochs=1).fit(batches()[:3]))
    assert checkpoint.load(tmp_path / "training.safetensors")[1]["training"]["step"] == 2
    resumed = trainer(output_dir=tmp_path).fit(batches(), resume=True)
    assert same(resumed, trainer().fit(batches()))


def test_a_history_that_cannot_be_drawn_costs_no_epoch(tmp_path, monkeypatch):
    from learnable_cam_plugin.training import loop

    def full(*_):
        raise OSError(28, "No space left on device", "history.csv")

    monkeypatch.setattr(loop, "write_history", full)
    with pytest.raises(OSError, match="No space left"):
        trainer(output_dir=tmp_path, epochs=1).fit(batches())
    monkeypatch.undo()
    record = checkpoint.load(tmp_path / "training.safetensors")[1]["training"]
    assert (record["epoch"], len(record["history"])) == (1, 1)
    trainer(output_dir=tmp_path, epochs=1).fit(batches(), resume=True)
    with open(tmp_path / "history.csv") as handle:
        assert [row["epoch"] for row in csv.DictReader(handle)] == ["1"]


def test_a_validation_that_fails_costs_no_epoch(tmp_path):
    broken = Fails(OSError("a broken image"), epoch=2, batch=1)
    t = trainer(output_dir=tmp_path)
    with pytest.raises(OSError, match="broken image"):
        t.fit(batches(), broken)
    assert same(t.attention, trainer(epochs=1).fit(batches()))
    unread = Fails(AssertionError("read, not replayed"), epoch=9, batch=0)
    whole = trainer(output_dir=tmp_path)
    assert same(whole.fit(unread, batches(), resume=True), trainer().fit(batches(), batches()))
    assert [row["epoch"] for row in whole.history] == [0, 1, 2]


def test_the_attention_says_on_how_many_images_and_how_well_it_was_validated(tmp_path):
    t = trainer(output_dir=tmp_path)
    t.fit(batches(), batches()[:2])
    last = t.history[-1]
    for attention in (t.attention, load_attention(tmp_path / "attention")):
        recipe = attention.origin.recipe
        assert (recipe["images"], recipe["mixed_precision"]) == (16, "no")
        assert recipe["validation"] == {
            "average_drop": last["val_average_drop"],
            "increase_in_confidence": last["val_increase_in_confidence"],
            "images": 8,
        }
    again = trainer(output_dir=tmp_path).fit(batches(), batches()[:2], resume=True)
    assert again.origin.recipe == t.attention.origin.recipe
    assert "validation" not in trainer().fit(batches()).origin.recipe


def test_with_patience_the_figures_are_those_of_the_best_epoch():
    high = RECIPES["l-cam-img"]
    t = trainer(recipe=high, start="random", epochs=6, patience=5)
    attention = t.fit(batches(), batches()[:2])
    best = min(t.history, key=lambda row: row["val_average_drop"])
    assert attention.origin.recipe["validation"]["average_drop"] == best["val_average_drop"]


def test_another_classifier_is_told_by_any_of_its_tensors(tmp_path):
    """One value of the first layer is enough."""
    trainer(output_dir=tmp_path).fit(batches())
    other = tiny_network()
    with torch.no_grad():
        other[0].weight[0] += 1
    with pytest.raises(checkpoint.CheckpointError, match=r"0\.weight"):
        trainer(other, output_dir=tmp_path).fit(batches(), resume=True)


def test_the_origin_is_the_classifiers():
    t = trainer(epochs=1)
    assert t.fit(batches()).origin.tensors == Origin.of(tiny_network()).tensors


def test_few_scores_between_0_and_1_may_be_logits():
    model = nn.Sequential(*tiny_network(), nn.Sigmoid()).eval()
    classifier = FrozenClassifier.of(model, ["4"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_clean_pass(classifier, torch.rand(3, 3, 20, 24))
    with pytest.warns(UserWarning, match="all scores of the first batch lie in"):
        check_clean_pass(classifier, torch.rand(4, 3, 20, 24))
