"""The trainer: what it trains, what it leaves alone, what survives an interruption."""

import csv
import dataclasses
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from learnable_cam_plugin import (
    RECIPES,
    CheckpointError,
    LCAMAttention,
    LearnableCAM,
    LearnableCAMTrainer,
    Normalization,
    calibrate,
    load_attention,
)
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import average_drop, confidence
from learnable_cam_plugin.training import find_recipe
from learnable_cam_plugin.training.objectives.lcam import LossWeights, lcam_loss

from ..conftest import UNIT, tiny_network


def pixels(n=12, seed=0):
    return torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(seed))


def loader(n=12, shuffle=True):
    return DataLoader(TensorDataset(pixels(n)), batch_size=4, shuffle=shuffle)


def trainer(model, **options):
    defaults = {"normalization": UNIT, "epochs": 2, "progress": False, "device": "cpu"}
    defaults["recipe"] = "l-cam-img"  # every-threshold has a file of its own
    return LearnableCAMTrainer(model, ["4"], **{**defaults, **options})


def same(a: LCAMAttention, b: LCAMAttention) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("recipe", ["l-cam-img", "l-cam-fm"])
@pytest.mark.parametrize("start", ["head", "random"])
def test_only_the_attention_changes(recipe, start):
    model = tiny_network().train()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [(m.training, len(m._forward_hooks)) for m in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]

    attention = trainer(model, recipe=recipe, start=start).fit(loader())

    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [(m.training, len(m._forward_hooks)) for m in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all((p.grad == 2).all() for p in model.parameters())
    untrained = calibrate(model, ["4"], pixels())
    assert not torch.equal(attention.weights[0], untrained.weights[0])


@pytest.mark.parametrize("recipe", ["l-cam-img", "l-cam-fm"])
def test_one_step_is_the_papers_computation(recipe):
    """One SGD step against a computation written out on its own."""
    model, x = tiny_network().eval(), pixels(4)
    plain = dataclasses.replace(RECIPES[recipe], optimizer="sgd", learning_rate=0.1)
    trained = trainer(model, recipe=plain, epochs=1).fit([x])

    w = model[8].weight.detach().clone().requires_grad_()
    b = model[8].bias.detach().clone().requires_grad_()
    maps = model[:5](x).detach()
    y = model(x).argmax(1)
    a = torch.sigmoid((w[y][:, :, None, None] * maps).sum(1) + b[y][:, None, None])
    if recipe == "l-cam-img":
        logits = model(x * nn.functional.interpolate(a[:, None], x.shape[2:], mode="bilinear"))
    else:
        logits = model[5:](maps * a[:, None])
    loss = lcam_loss(logits, y, a, plain.loss)["loss"]
    gw, gb = torch.autograd.grad(loss, (w, b))
    # Nesterov's first step with momentum 0.9 is 1.9 gradients; biases go at twice the rate.
    expected_w = w - 0.1 * 1.9 * (gw + 5e-4 * w)
    expected_b = b - 0.2 * 1.9 * (gb + 5e-4 * b)
    assert torch.allclose(trained.weights[0], expected_w, atol=1e-6)
    assert torch.allclose(trained.biases[0], expected_b, atol=1e-6)


def test_the_authors_reading_regularises_every_label_of_the_batch():
    model, x = tiny_network().eval(), pixels(4)
    reading = dataclasses.replace(RECIPES["l-cam-img"], regularize="batch")
    one = trainer(model, recipe=reading, epochs=1)
    one.fit([x])
    attention = calibrate(model, ["4"], x)
    y = model(x).argmax(1)
    with torch.no_grad():
        features = {"4": model[:5](x)}
        every = attention(features, y.expand(4, 4))[0].sigmoid().flatten(0, 1)
        own = attention(features, y)[0].sigmoid()
        logits = model(mask_image(x, own, UNIT))
        expected = lcam_loss(logits, y, every, reading.loss, batch_size=4)
    for name, value in expected.items():
        assert one.history[0][name] == pytest.approx(float(value), rel=1e-4)


def test_training_lowers_the_loss_and_history_says_so(tmp_path):
    t = trainer(tiny_network(), start="random", epochs=15, output_dir=tmp_path)
    t.fit(loader(), loader(8, shuffle=False))
    assert t.history[-1]["loss"] < t.history[1]["loss"]
    with open(tmp_path / "history.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["epoch"]) for row in rows] == list(range(16))
    assert float(rows[-1]["loss"]) == pytest.approx(t.history[-1]["loss"])
    assert {"cross_entropy", "average_variation", "total_variation"} <= rows[-1].keys()
    assert (tmp_path / "history.png").stat().st_size > 1000
    assert {p.name for p in tmp_path.iterdir()} == {
        "history.csv",
        "history.png",
        "training.safetensors",
        "attention",
    }


def test_validation_scores_what_learnable_cam_shows():
    model, x = tiny_network().eval(), pixels(6, seed=5)
    t = trainer(model, epochs=1)
    attention = t.fit(loader(), [x[:4], x[4:]])
    with torch.no_grad():
        p, y = model(x).softmax(1).max(1)
    maps = LearnableCAM(model, [model[4]], attention=attention).saliency(x)
    q = confidence(model, mask_image(x, maps, UNIT), y)
    assert t.history[-1]["val_average_drop"] == pytest.approx(average_drop(p, q), abs=1e-3)


def test_the_attention_says_what_it_was_trained_for(tmp_path):
    model = tiny_network()
    trainer(model, output_dir=tmp_path, seed=7).fit(loader())
    attention = load_attention(tmp_path / "attention")
    origin = attention.origin
    assert origin.recipe["name"] == "l-cam-img"
    assert origin.recipe["loss"]["average_variation"] == 2.0
    assert (origin.recipe["epochs"], origin.recipe["seed"], origin.recipe["start"]) == (
        2,
        7,
        "head",
    )
    assert origin.normalization == {"mean": [0.0], "std": [1.0]}
    assert origin.input_size == [3, 20, 24]
    LearnableCAM(model, [model[4]], attention=tmp_path / "attention")(pixels(2))


def test_seeds_repeat_and_differ_and_the_callers_generators_are_left_alone():
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = trainer(tiny_network(), start="random", seed=3).fit(loader())
    drawn = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(99)
    again = trainer(tiny_network(), start="random", seed=3).fit(loader())
    other = trainer(tiny_network(), start="random", seed=4).fit(loader())
    assert same(first, again)
    assert not same(first, other)
    tiny_network()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    tiny_network()  # it seeds torch itself, as above
    assert (random.random(), np.random.rand()) == drawn[1:]  # noqa: NPY002


def test_the_loaders_own_generator_is_left_as_it_was():
    own = torch.Generator().manual_seed(5)
    shuffled = DataLoader(TensorDataset(pixels()), 4, shuffle=True, generator=own)
    before = own.get_state()
    first = trainer(tiny_network(), seed=3).fit(shuffled)
    assert torch.equal(own.get_state(), before)
    own.manual_seed(6)
    assert same(first, trainer(tiny_network(), seed=3).fit(shuffled))  # the seed alone decides


class Stops:
    """A loader that breaks off at a batch of an epoch."""

    def __init__(self, loader, epoch, batch):
        self.loader, self.left, self.batch = loader, epoch + 1, batch  # one more: the first look

    @property
    def sampler(self):
        return self.loader.sampler

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.left -= 1
        for i, batch in enumerate(self.loader):
            if self.left < 0 and i == self.batch:
                raise KeyboardInterrupt
            yield batch


@pytest.mark.parametrize("recipe", ["l-cam-img", "sgd"])
@pytest.mark.parametrize(("epoch", "batch", "every"), [(2, 1, None), (1, 2, 1), (2, 2, 2)])
def test_a_resumed_training_ends_as_the_uninterrupted_one(tmp_path, recipe, epoch, batch, every):
    if recipe == "sgd":
        recipe = dataclasses.replace(RECIPES["l-cam-fm"], optimizer="sgd", learning_rate=0.01)
    options = {"recipe": recipe, "epochs": 4, "checkpoint_every": every}
    val = loader(8, shuffle=False)
    whole = trainer(tiny_network(), **options)
    expected = whole.fit(loader(), val)
    first = trainer(tiny_network(), **options, output_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.fit(Stops(loader(), epoch, batch), val)
    second = trainer(tiny_network(), **options, output_dir=tmp_path)
    resumed = second.fit(loader(), val, resume=True)
    assert same(resumed, expected)
    for row, other in zip(second.history, whole.history, strict=True):
        assert {**row, "seconds": 0} == pytest.approx({**other, "seconds": 0})
    assert same(trainer(tiny_network(), **options, output_dir=tmp_path).fit(
        loader(), val, resume=True), expected)  # fmt: skip


def test_a_killed_process_resumes_to_the_same_result(tmp_path):
    script = textwrap.dedent(
        f"""
        import os, signal
        from tests.training.test_trainer import loader, tiny_network, trainer
        class Kill:
            rounds = 0
            def __iter__(self):
                self.rounds += 1
                for i, batch in enumerate(inner):
                    if self.rounds == 4 and i == 1:
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield batch
        inner = loader()
        trainer(tiny_network(), epochs=4, output_dir={str(tmp_path)!r}).fit(Kill())
        """
    )
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", script], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = trainer(tiny_network(), epochs=4, output_dir=tmp_path).fit(loader(), resume=True)
    assert same(resumed, trainer(tiny_network(), epochs=4).fit(loader()))


def test_two_processes_train_one_attention(tmp_path):
    """Under accelerate each process sees half of the images, and all end with the same weights."""
    script = textwrap.dedent(
        f"""
        from accelerate import debug_launcher
        from torch.distributed import get_rank
        from tests.training.test_trainer import loader, tiny_network, trainer
        def run():
            t = trainer(tiny_network(), epochs=2, output_dir={str(tmp_path)!r})
            attention = t.fit(loader(16), loader(8, shuffle=False))
            assert t.history[-1]["images"] == 16, t.history
            attention.save({str(tmp_path)!r} + f"/{{get_rank()}}.safetensors")
        debug_launcher(run, num_processes=2)
        """
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True, timeout=300)
    first, second = (load_attention(tmp_path / f"{i}.safetensors") for i in (0, 1))
    assert same(first, second)
    untrained = calibrate(tiny_network(), ["4"], pixels())
    assert not same(first, untrained)


def test_a_training_is_not_overwritten_nor_continued_with_other_settings(tmp_path):
    trainer(tiny_network(), output_dir=tmp_path).fit(loader())
    with pytest.raises(FileExistsError, match="pass resume=True"):
        trainer(tiny_network(), output_dir=tmp_path).fit(loader())
    with pytest.raises(CheckpointError, match="seed: 0 then, 5 now"):
        trainer(tiny_network(), output_dir=tmp_path, seed=5).fit(loader(), resume=True)
    with pytest.raises(CheckpointError, match="classifier"):
        trainer(tiny_network(seed=1), output_dir=tmp_path).fit(loader(), resume=True)
    content = (tmp_path / "training.safetensors").read_bytes()
    (tmp_path / "training.safetensors").write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match="not a whole"):
        trainer(tiny_network(), output_dir=tmp_path).fit(loader(), resume=True)


def test_patience_stops_and_returns_the_best_epoch(monkeypatch):
    from learnable_cam_plugin.training.loop import TrainingRun

    drops = iter([50.0, 40.0, 30.0, 35.0, 36.0, 10.0])
    seen = []

    def fake(self, _loader):
        seen.append({k: v.clone() for k, v in self.plain.state_dict().items()})
        return {"val_average_drop": next(drops), "val_increase_in_confidence": 0.0}

    monkeypatch.setattr(TrainingRun, "_validate", fake)
    t = trainer(tiny_network(), epochs=9, patience=2)
    best = t.fit(loader(), loader())
    assert [row["epoch"] for row in t.history] == [0, 1, 2, 3, 4]
    assert all(torch.equal(v, seen[2][k]) for k, v in best.state_dict().items())


def test_several_layers_and_a_given_attention_and_volumes():
    model = tiny_network()
    both = LearnableCAMTrainer(
        model, [model[2], "4"], normalization=UNIT, start="random", epochs=1, progress=False,
        device="cpu", recipe="l-cam-fm",
    ).fit(loader())  # fmt: skip
    assert both.channels == {"2": 6, "4": 8}
    given = trainer(model, start=calibrate(model, ["4"], pixels()), epochs=1).fit(loader())
    assert same(given, trainer(model, start="head", epochs=1).fit(loader()))
    volume = nn.Sequential(
        nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    for recipe in ("l-cam-img", "l-cam-fm"):
        LearnableCAMTrainer(
            volume, ["1"], recipe=recipe, normalization=UNIT, epochs=1, progress=False, device="cpu"
        ).fit([torch.rand(2, 1, 8, 8, 8)])


@pytest.mark.parametrize("recipe", ["l-cam-img", "l-cam-fm", "every-threshold"])
def test_a_classifier_in_double_precision_and_an_attention_in_half(recipe):
    precise = trainer(tiny_network().double(), recipe=recipe, epochs=1)
    double = precise.fit([pixels().double()])
    assert all(torch.isfinite(p).all() for p in double.parameters())
    model = tiny_network()
    started = trainer(model, recipe=recipe, epochs=1).fit(loader())
    further = trainer(model, recipe=recipe, epochs=1, start=started.half()).fit(loader())
    assert {p.dtype for p in further.parameters()} == {torch.float32}
    assert not same(further, started)


def test_dataset_labels_are_an_option():
    data = [(pixels(4), torch.tensor([0, 1, 2, 3]))]
    own = trainer(tiny_network(), labels="dataset", epochs=1).fit(data)
    assert not same(own, trainer(tiny_network(), epochs=1).fit(data))
    with pytest.raises(ValueError, match="labels range from 0 to 5"):
        trainer(tiny_network(), labels="dataset").fit([(pixels(2), torch.tensor([0, 5]))])
    with pytest.raises(TypeError, match="needs a loader"):
        trainer(tiny_network(), labels="dataset").fit([pixels(2)])


# Bad input


def nan_images():
    x = pixels(4)
    x[1, 0, 2, 2] = torch.nan
    return x


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([], ValueError, "loader is empty"),
        ((x for x in [pixels(4)]), ValueError, "can be iterated once"),
        ([nan_images()], ValueError, r"images \[1\] of the batch hold NaN"),
        ([{"x": pixels(2)}], TypeError, r"under one of .* it has the keys \['x'\]"),
        ([pixels(2) * 5 - 2], ValueError, "declare the normalisation"),
    ],
)
def test_bad_loaders_are_refused_and_leave_nothing(tmp_path, data, error, message):
    model = tiny_network().train()
    with pytest.raises(error, match=message):
        trainer(model, output_dir=tmp_path / "out").fit(data)
    assert not (tmp_path / "out").exists()
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": None}, "normalization is missing"),
        ({"recipe": "grad-cam"}, "there is no recipe 'grad-cam'"),
        ({"start": "zero"}, "start must be"),
        ({"labels": "mine"}, "labels must be"),
        ({"epochs": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(tiny_network(), **options)
    with pytest.raises(ValueError, match="patience needs a val_loader"):
        trainer(tiny_network(), patience=2).fit(loader())


def test_a_loss_that_is_not_finite_stops_the_training():
    loss = LossWeights(cross_entropy=torch.inf)
    endless = dataclasses.replace(RECIPES["l-cam-img"], loss=loss)
    with pytest.raises(FloatingPointError, match="not finite at epoch 1, step 1"):
        trainer(tiny_network(), recipe=endless).fit(loader())


def test_a_classifier_with_one_score_is_refused():
    with pytest.raises(ValueError, match="training needs one a class"):
        trainer(tiny_network(num_classes=1)).fit(loader())


# Recipes


def test_the_authors_optimiser():
    sgd = dataclasses.replace(RECIPES["l-cam-img"], optimizer="sgd", learning_rate=1e-4)
    optimizer = sgd.make_optimizer(LCAMAttention({"x": 3}, 2))
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 2e-4]
    assert all(g["nesterov"] and g["momentum"] == 0.9 for g in optimizer.param_groups)
    assert all(g["weight_decay"] == 5e-4 for g in optimizer.param_groups)
    assert sgd.rate(0, 26) == 1
    assert sgd.rate(12, 26) == sgd.rate(25, 26) == 0.95**12
    assert RECIPES["l-cam-img"].rate(5, 8) == 1


def test_unknown_options_of_a_recipe_are_refused():
    for change in ({"mask": "pixels"}, {"regularize": "all"}, {"optimizer": "lbfgs"}):
        with pytest.raises(ValueError, match="must be one of"):
            dataclasses.replace(find_recipe("l-cam-img"), **change)
    with pytest.raises(ValueError, match="above 0"):
        dataclasses.replace(find_recipe("l-cam-img"), learning_rate=0.0)


def test_masking_uses_the_declared_normalisation():
    """The same pixels, normalised in two ways for a network that undoes it, train the same."""
    first = tiny_network().eval()
    shifted = Normalization([0.5], [0.25])

    class Undo(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(shifted.denormalize(x))

    plain = trainer(first, epochs=1).fit([pixels(4)])
    other = LearnableCAMTrainer(
        Undo(tiny_network()), ["inner.4"], normalization=shifted, epochs=1, progress=False,
        device="cpu", recipe="l-cam-img",
    ).fit([shifted.normalize(pixels(4))])  # fmt: skip
    assert torch.allclose(plain.weights[0], other.weights[0], atol=1e-4)


class CutOff(torch.optim.Adam):
    """Is interrupted in the middle of its third step, when one tensor has moved and one has not."""

    steps = 0

    def step(self, *args):
        type(self).steps += 1
        if type(self).steps == 3:
            with torch.no_grad():
                self.param_groups[0]["params"][0].add_(1)
            raise KeyboardInterrupt
        return super().step(*args)


class CutOffRecipe(type(RECIPES["l-cam-img"])):
    def make_optimizer(self, attention):
        return CutOff(attention.parameters(), lr=self.learning_rate)


def test_cut_off_in_the_middle_of_a_step_it_is_as_after_the_last_whole_one(monkeypatch):
    monkeypatch.setattr(CutOff, "steps", 0)
    recipe = CutOffRecipe(**dataclasses.asdict(RECIPES["l-cam-img"]) | {
        "loss": RECIPES["l-cam-img"].loss})  # fmt: skip
    broken = trainer(tiny_network(), recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(loader(shuffle=False))
    whole = trainer(tiny_network(), epochs=1)
    expected = whole.fit(DataLoader(TensorDataset(pixels(8)), batch_size=4))
    assert same(broken.attention, expected)


def test_another_attention_to_start_from_is_another_training(tmp_path):
    model = tiny_network()
    one, other = (calibrate(model, ["4"], pixels(seed=seed)) for seed in (1, 2))
    with torch.no_grad():
        other.weights[0].mul_(1.1)
    trainer(model, start=one, output_dir=tmp_path, epochs=1).fit(loader())
    again = trainer(model, start=other, output_dir=tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match=r"start from: '.*' then, '.*' now"):
        again.fit(loader(), resume=True)


def test_a_training_at_its_end_says_that_nothing_is_done(tmp_path):
    model = tiny_network()
    trainer(model, output_dir=tmp_path).fit(loader())
    again = trainer(model, output_dir=tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="holds a training of 2 epochs already, and epochs=1"):
        again.fit(loader(), loader(), resume=True)
    assert [row["epoch"] for row in again.history] == [1, 2]


def test_a_validation_that_came_in_mid_epoch_is_not_of_the_start(tmp_path):
    model = tiny_network()
    first = trainer(model, output_dir=tmp_path, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        first.fit(Stops(loader(shuffle=False), 1, 2))
    again = trainer(model, output_dir=tmp_path)
    again.fit(loader(shuffle=False), loader(), resume=True)
    assert [row["epoch"] for row in again.history] == [1, 2]


def test_the_columns_of_a_resumed_history_are_in_their_order(tmp_path):
    model = tiny_network()
    trainer(model, output_dir=tmp_path, epochs=1).fit(loader())
    before = (tmp_path / "history.csv").read_text()
    again = trainer(model, output_dir=tmp_path, epochs=2)
    again.fit(loader(), resume=True)
    assert (tmp_path / "history.csv").read_text().startswith(before.splitlines()[0])
    assert list(again.history[0]) == list(again.history[1])


@pytest.mark.parametrize("name", ["history.csv", "attention/model.safetensors"])
def test_files_of_something_else_are_kept(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"my own table,1,2\n")
    with pytest.raises(FileExistsError, match=r"history.csv is no history|is no attention's"):
        trainer(tiny_network(), output_dir=tmp_path).fit(loader())
    assert (tmp_path / name).read_bytes() == b"my own table,1,2\n"
    assert not (tmp_path / "training.safetensors").exists()


def test_where_no_epoch_was_better_than_the_start_it_is_said():
    worse = dataclasses.replace(RECIPES["l-cam-img"], learning_rate=100.0)
    training = trainer(tiny_network(), recipe=worse, patience=1, epochs=3)
    with pytest.warns(UserWarning, match="lower average drop than the start"):
        attention = training.fit(loader(), loader())
    assert attention.origin.recipe["epoch kept"] == 0
    assert same(attention, calibrate(tiny_network(), ["4"], next(iter(loader()))[0]))


def test_scores_after_a_sigmoid_are_told_of():
    model = nn.Sequential(*tiny_network(), nn.Sigmoid())
    with pytest.warns(UserWarning, match="do not exclude each other"):
        trainer(model, epochs=1).fit(loader())


def test_a_validation_loaders_generator_is_left_as_it_was():
    own = torch.Generator().manual_seed(3)
    validation = DataLoader(TensorDataset(pixels(8)), 4, shuffle=True, generator=own)
    before = own.get_state()
    trainer(tiny_network(), epochs=1).fit(loader(), validation)
    assert torch.equal(own.get_state(), before)


def test_features_of_a_layer_that_runs_twice_are_not_masked_twice():
    """The map is of its last run, and a mask of every run would be of none."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
            self.relu, self.head = nn.ReLU(), nn.Linear(6, 5)

        def forward(self, x):
            return self.head(self.relu(self.second(self.relu(self.first(x)))).mean((2, 3)))

    options = {"normalization": UNIT, "progress": False, "device": "cpu", "recipe": "l-cam-fm"}
    with pytest.raises(ValueError, match="layer 'relu' runs 2 times in a pass"):
        LearnableCAMTrainer(Twice(), ["relu"], **options).fit(loader())
