import json
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learnable_cam_plugin import CheckpointError, LCAMAttention, checkpoint


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
        st.sampled_from([torch.float32, torch.int64, torch.bfloat16, torch.bool]),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none()),
)
def test_what_is_saved_is_loaded(tmp_path, types, record):
    tensors = {name: torch.ones(2, 3).to(dtype) for name, dtype in types.items()}
    checkpoint.save(tmp_path / "x.safetensors", tensors, {"record": record})
    loaded, got = checkpoint.load(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[k], v) and loaded[k].dtype == v.dtype for k, v in tensors.items())
    assert got["record"] == record


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.safetensors"
    LCAMAttention({"x": 3}, 4).save(path)
    return path


def test_every_truncation_is_refused(file):
    whole = file.read_bytes()
    for length in [0, 4, 8, 100, len(whole) // 2, len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            LCAMAttention.load(file)


def test_altered_weights_are_refused(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="altered or damaged"):
        LCAMAttention.load(file)


def test_an_altered_record_is_refused(file):
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].replace(b'num_classes\\": 4', b'num_classes\\": 5')
    assert header != content[8 : 8 + length]
    file.write_bytes(content[:8] + header + content[8 + length :])
    with pytest.raises(CheckpointError, match="altered or damaged"):
        LCAMAttention.load(file)


def test_a_pickle_is_not_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    torch.save({"weights": Bomb()}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="pickle"):
        LCAMAttention.load(tmp_path / "a.safetensors")


def test_foreign_and_inconsistent_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"w": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="no learnable_cam_plugin record"):
        LCAMAttention.load(path)
    checkpoint.save(path, {}, {"training": {}})
    with pytest.raises(CheckpointError, match="training state, not a LCAMAttention"):
        LCAMAttention.load(path)
    record = {"mechanism": "LCAMAttention", "channels": [["x", 3]], "num_classes": 2}
    checkpoint.save(path, {"weights.0": torch.ones(9, 9)}, {**record, "origin": None})
    with pytest.raises(CheckpointError, match="contradicts its own record"):
        LCAMAttention.load(path)
    checkpoint.save(path, {}, {"format": 99})
    with pytest.raises(CheckpointError, match="format 99"):
        LCAMAttention.load(path)
    with pytest.raises(FileNotFoundError):
        LCAMAttention.load(tmp_path / "missing")


def test_the_record_says_what_it_was_made_for(file):
    with safetensors.safe_open(file, "pt") as handle:
        record = json.loads(handle.metadata()["learnable_cam_plugin"])
    assert record["channels"] == [["x", 3]]
    assert record["num_classes"] == 4
