"""Local weights: read without pickle, all of them or none, and what does not fit is named."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from learnable_cam_plugin.loading.weights import built, load_weights, read_weights

from ..conftest import tiny_network


@pytest.fixture
def state():
    return tiny_network(seed=3).state_dict()


def saved(state, path):
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_gives_its_weights(state, tmp_path, name):
    model = built(tiny_network, saved(state, tmp_path / name))
    assert not model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


WRAPPED = {
    "parallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "compiled": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "a training program's": lambda state: {"state_dict": state, "epoch": 3},
    "two of them": lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_what_programs_put_around_them_is_taken_off(state, tmp_path, kind):
    path = tmp_path / "w.pth"
    torch.save(WRAPPED[kind](state), path)
    assert read_weights(path).keys() == state.keys()


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("a pickle ran",))


def test_a_pickle_is_never_run(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"weight": Harmful()}, path)
    with pytest.raises(ValueError, match="no weights that can be read safely"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match="no weights that can be read safely"):
        read_weights(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}' holds no weights.*torch.save"):
        read_weights(path)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"weight": 3}, torch.zeros(2)])
def test_what_is_no_state_dict_is_said(tmp_path, content):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match="holds no state dict"):
        read_weights(path)


def test_what_does_not_fit_is_named_and_nothing_is_loaded(state, tmp_path):
    del state["0.bias"]
    state["head.extra"] = torch.zeros(1)
    state["8.weight"] = torch.zeros(3, 8)
    model = tiny_network(seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="not those of this Sequential") as raised:
        load_weights(model, saved(state, tmp_path / "w.safetensors"))
    for part in (
        "missing: 0.bias;",
        "not expected: head.extra;",
        "of another shape: 8.weight (3, 8), not (5, 8).",
        "num_classes=K",
    ):
        assert part in str(raised.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_of_many_names_a_few_are_shown(tmp_path):
    path = saved({f"layer{i}": torch.zeros(1) for i in range(9)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="not expected: layer0, layer1, layer2, layer3 and 5 more"):
        load_weights(tiny_network(), path)


def test_a_head_that_starts_at_zero_is_drawn():
    def zero():
        linear = nn.Linear(4, 3)
        nn.init.zeros_(linear.weight)
        return linear

    drawn = built(zero, "random").weight
    assert len(drawn.unique()) == 12
    assert torch.equal(drawn, built(zero, "random").weight)
