"""Several processes train what one does, or are refused; accelerate's own state is the host's."""

import dataclasses
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from learnable_cam_plugin import (
    RECIPES,
    LearnableCAM,
    LearnableCAMTrainer,
    calibrate,
    load_attention,
)

from ..conftest import UNIT, tiny_network

ROOT = Path(__file__).resolve().parents[2]


def pixels(n=12, seed=0):
    return torch.rand(n, 3, 20, 24, generator=torch.Generator().manual_seed(seed))


def batches():
    """Of sizes that two processes cannot halve, one of them too small for both."""
    return list(pixels(13).split([5, 4, 3, 1]))


def shuffled():
    data = TensorDataset(pixels(10), torch.arange(10) % 5)
    return DataLoader(data, batch_size=4, shuffle=True)


class Falling:
    """A recipe whose learning rate falls with every step, to 0 at the end."""

    per_image = True

    def __init__(self, recipe):
        self.recipe = recipe

    def __getattr__(self, name):
        return getattr(self.recipe, name)

    def rate(self, done, epochs):
        return 1 - done / epochs


def trainer(recipe="l-cam-img", **options):
    if recipe == "falling":
        recipe = Falling(
            dataclasses.replace(RECIPES["l-cam-img"], optimizer="sgd", learning_rate=0.1)
        )
    options = {"normalization": UNIT, "epochs": 2, "progress": False, "device": "cpu", **options}
    return LearnableCAMTrainer(tiny_network(), ["4"], recipe=recipe, **options)


def launched(code: str, folder: Path) -> str:
    """What two processes say that each run `code`, the function `run(rank, folder)`."""
    lines = [
        "from pathlib import Path",
        "from accelerate import debug_launcher",
        "from torch.distributed import get_rank",
        "from tests.reliability.test_training_processes import *",
        textwrap.dedent(code),
        f"debug_launcher(lambda: run(get_rank(), Path({str(folder)!r})), num_processes=2)",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    return run.stdout + run.stderr


CASES = {
    "l-cam-img": ({}, batches),
    "l-cam-fm": ({"start": "random"}, batches),
    "falling": ({"labels": "dataset"}, shuffled),
}


def apart(one, other):
    return max(float((v - other.state_dict()[k]).abs().max()) for k, v in one.state_dict().items())


def test_two_processes_train_what_one_does(tmp_path):
    """Lists as well as loaders, batches of any size, a schedule that moves with every step."""
    said = launched(
        """
        def run(rank, folder):
            for recipe, (options, loader) in CASES.items():
                t = trainer(recipe, **options)
                attention = t.fit(loader(), list(pixels(5, seed=3).split([3, 1, 1])))
                attention.save(folder / f"{recipe}-{rank}.safetensors")
                torch.save(t.history, folder / f"{recipe}-{rank}.pt")
        """,
        tmp_path,
    )
    for recipe, (options, loader) in CASES.items():
        single = trainer(recipe, **options)
        expected = single.fit(loader(), list(pixels(5, seed=3).split([3, 1, 1])))
        untrained = calibrate(tiny_network(), ["4"], pixels())
        assert apart(expected, untrained) > 1e-3  # there is something to be equal in
        for rank in (0, 1):
            path = tmp_path / f"{recipe}-{rank}.safetensors"
            assert path.exists(), said
            assert apart(expected, load_attention(path)) < 1e-4, recipe
            for row, wanted in zip(
                torch.load(tmp_path / f"{recipe}-{rank}.pt"), single.history, strict=True
            ):
                assert {**row, "seconds": 0} == pytest.approx({**wanted, "seconds": 0}, abs=1e-3)


class Stops:
    """A loader that breaks off in the second epoch, after a step."""

    def __init__(self, loader):
        self.loader, self.rounds = loader, 0

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.rounds += 1
        for i, batch in enumerate(self.loader):
            if i == 1 and self.rounds > 3:  # two looks, and the first epoch
                raise KeyboardInterrupt
            yield batch


def test_two_processes_that_were_interrupted_go_on_as_one_would(tmp_path):
    said = launched(
        """
        def run(rank, folder):
            options = {"output_dir": folder / "training", "checkpoint_every": 1, "epochs": 3}
            t = trainer("falling", **options)
            try:
                t.fit(Stops(shuffled()))
            except KeyboardInterrupt:
                # one write: two processes share the pipe
                sys.stdout.write(f"interrupted in epoch {len(t.history) + 1} ")
                sys.stdout.flush()
            torch.distributed.barrier()
            t.fit(shuffled(), resume=True).save(folder / f"{rank}.safetensors")
            torch.save(t.history, folder / f"{rank}.pt")
        """,
        tmp_path,
    )
    assert said.count("interrupted in epoch 2") == 2, said
    single = trainer("falling", epochs=3)
    expected = single.fit(shuffled())
    for rank in (0, 1):
        assert apart(expected, load_attention(tmp_path / f"{rank}.safetensors")) < 1e-4, said
        for row, wanted in zip(torch.load(tmp_path / f"{rank}.pt"), single.history, strict=True):
            assert {**row, "seconds": 0} == pytest.approx({**wanted, "seconds": 0}, abs=1e-3)


def test_what_two_processes_cannot_share_is_refused_by_both(tmp_path):
    said = launched(
        """
        def run(rank, folder):
            for name, refused in REFUSED.items():
                try:
                    refused(rank)
                except (ValueError, FloatingPointError) as error:
                    print(f"{name}: {error}", flush=True)
        """,
        tmp_path,
    )
    for line in (
        "draws: 2 processes were launched, and the recipe 'every-threshold' draws over whole",
        "loaders: the processes drew different batches",
        "norm: 2 processes were launched, and ['norm'] of the attention mix the images of a batch",
        "not finite: the loss is not finite at epoch 1, step 1",
    ):
        assert said.count(line) == 2, said


REFUSED = {
    "draws": lambda _rank: trainer("every-threshold").fit(batches()),
    "loaders": lambda rank: trainer().fit([pixels(4, seed=rank)]),
    "norm": lambda _rank: trainer(start=with_norm()).fit(batches()),
    "not finite": lambda _rank: trainer(NotFinite()).fit(batches()),  # in one of the two
}


class NotFinite(Falling):
    """Its loss is not finite for one image, the first of the first batch."""

    def __init__(self):
        super().__init__(RECIPES["l-cam-img"])

    def step(self, classifier, images):
        terms = self.recipe.step(classifier, images)

        def spoilt(attention, images, labels, seed):
            found = terms(attention, images, labels, seed)
            if torch.equal(images[0], pixels(13)[0]):
                found["loss"] = found["loss"] * torch.nan
            return found

        return spoilt


def with_norm():
    attention = calibrate(tiny_network(), ["4"], pixels())
    attention.norm = nn.BatchNorm2d(4)
    return attention


# accelerate's process-wide state

STATES = (AcceleratorState, GradientState, PartialState)


@pytest.fixture
def fresh(monkeypatch):
    """A process in which nobody has used accelerate yet."""
    for state in STATES:
        monkeypatch.setattr(state, "_shared_state", {})


@pytest.mark.usefixtures("fresh")
def test_a_training_leaves_accelerate_to_the_host_program():
    trainer(mixed_precision="no").fit(batches())
    assert [state._shared_state for state in STATES] == [{}, {}, {}]
    assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("fails", [False, True])
def test_the_host_programs_accelerator_is_neither_used_nor_changed(fails):
    host = Accelerator(mixed_precision="bf16", cpu=True)
    state = dict(host.state.__dict__)
    expected = trainer().fit(batches())
    for precision in ("no", "bf16"):
        if fails:
            with pytest.raises(ValueError, match="loader is empty"):
                trainer(mixed_precision=precision).fit([])
        else:
            trained = trainer(mixed_precision=precision).fit(batches())
            assert (apart(trained, expected) == 0) is (precision == "no")
        assert host.state.__dict__ == state
        assert host.mixed_precision == "bf16"
        assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"


def test_what_a_launcher_says_of_gradient_accumulation_divides_no_loss(monkeypatch):
    expected = trainer("falling").fit(batches())
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert apart(trainer("falling").fit(batches()), expected) == 0


def test_two_trainings_in_one_process_may_differ_in_precision():
    expected = trainer(mixed_precision="no").fit(batches())
    assert apart(trainer(mixed_precision="bf16").fit(batches()), expected) > 0
    assert apart(trainer(mixed_precision="no").fit(batches()), expected) == 0


def test_threads_that_train_at_once_get_what_they_would_get_alone():
    trainers = [trainer(start="random", seed=seed) for seed in range(4)]

    def train(t):
        return t.fit(shuffled())

    alone = list(map(train, trainers))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(trainers)) as pool:
            together = list(pool.map(train, trainers))
    finally:
        sys.setswitchinterval(before)
    assert [apart(a, b) for a, b in zip(alone, together, strict=True)] == [0] * len(trainers)


def test_an_attention_trained_in_bf16_shows_what_its_file_shows(tmp_path):
    t = trainer(mixed_precision="bf16", output_dir=tmp_path)
    attention, model = t.fit(batches(), [pixels(4)]), tiny_network().eval()
    shown, loaded = (
        LearnableCAM(model, [model[4]], attention=one).saliency(pixels(4))
        for one in (attention, tmp_path / "attention")
    )
    assert torch.equal(shown, loaded)


def test_fp16_on_a_cpu_is_refused_and_not_left_out():
    with pytest.raises(ValueError, match="mixed_precision='fp16' needs a GPU"):
        trainer(mixed_precision="fp16").fit(batches())
