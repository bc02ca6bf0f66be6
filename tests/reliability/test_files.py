"""Attention files: what is written is whole, and what is read is what it says it is."""

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from learnable_cam_plugin import (
    AttentionMechanism,
    CheckpointError,
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
    atomic,
    checkpoint,
    load_attention,
)
from learnable_cam_plugin.atomic import atomic_path
from learnable_cam_plugin.attention import ConditionedAttention

from .mutations import DEEP, joined, split
from .processes import python

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.safetensors"
    LCAMAttention({"4": 8}, 5).save(path)
    return path


@pytest.fixture
def unprivileged():
    """A folder of somebody who is not root, for the time of a test."""
    if sys.platform == "win32":
        pytest.skip("needs POSIX")
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        os.chmod(folder, 0o777)
        if user == 0:
            os.chown(folder, 65534, -1)
            os.seteuid(65534)
        yield folder
        os.seteuid(user)


# Reading


CLAIMS = """
import sys, torch
from learnable_cam_plugin import CheckpointError, load_attention
load_attention(sys.argv[1])
before = peak()
for path in sys.argv[2:]:
    try:
        load_attention(path)
    except CheckpointError as error:
        print("refused")
print(peak() - before)
"""


def test_what_a_file_claims_takes_no_memory(file, tmp_path):
    """20 million classes, numbers beyond any memory, a hundred thousand layers; digests right."""
    tensors, record = split(file.read_bytes())
    settings = {**ConditionedAttention({"4": 8}, 5, head="8").settings(), "width": 10**6}
    conditioned = {**record, "mechanism": "ConditionedAttention", "settings": settings}
    claims = [
        {**record, "num_classes": 20_000_000},
        {**record, "channels": [["4", 10**9]]},
        {**record, "channels": [[str(i), 8] for i in range(100_000)]},
        {**record, "channels": [["4", 8]] * 100_000},
        conditioned,
        {**conditioned, "num_classes": 20_000_000},
        {**conditioned, "settings": {**settings, "head": None}},
    ]
    paths = []
    for number, claim in enumerate(claims):
        paths.append(tmp_path / f"{number}.safetensors")
        paths[-1].write_bytes(joined(tensors, claim))
    *refused, grown = python(CLAIMS, file, *paths).split()
    assert refused == ["refused"] * len(claims)
    assert float(grown) < 60, grown


def test_classes_that_a_head_has_to_back_take_no_memory_before_it_does(tmp_path, tiny):
    """The head's rows are not in the file, so their number is only claimed there."""
    attention = ConditionedAttention({"4": 8}, 20_000_000, width=4, head="8")
    attention.save(tmp_path / "a.safetensors")
    loaded = load_attention(tmp_path / "a.safetensors")
    assert sum(tensor.numel() for tensor in [*loaded.parameters(), *loaded.buffers()]) < 1000
    with pytest.raises(CheckpointError, match="20000000"):
        LearnableCAM(tiny, ["4"], attention=loaded)
    for head in ("3", "nowhere", ""):
        other = ConditionedAttention({"4": 8}, 5, width=4, head=head)
        with pytest.raises(CheckpointError, match=f"linear layer '{head}'"):
            LearnableCAM(tiny, ["4"], attention=other)


def hostile():
    """Name -> (tensors, record), of a file with a right digest -> what is wrong with it."""
    whole = {"weights.0": torch.ones(5, 8), "biases.0": torch.ones(5)}
    record = {"format": 1, "mechanism": "LCAMAttention", "channels": [["4", 8]], "num_classes": 5}
    record |= {"settings": {}, "origin": None}
    bad = torch.ones(5)
    bad[3] = torch.nan
    yield "NaN", {**whole, "biases.0": bad}, record
    yield "infinite", {**whole, "biases.0": bad.nan_to_num(nan=torch.inf)}, record
    for kind in ("int64", "int8", "bool", "complex64", "float8_e4m3fn"):
        dtype = getattr(torch, kind)
        yield kind, {name: value.to(dtype) for name, value in whole.items()}, record
    yield "two precisions", {**whole, "biases.0": torch.ones(5).half()}, record
    yield "one too few", {"weights.0": whole["weights.0"]}, record
    yield "one too many", {**whole, "weights.1": torch.ones(1)}, record
    yield "another shape", {**whole, "weights.0": torch.ones(5, 9)}, record
    for name, changed in {
        "a layer twice": {"channels": [["4", 8], ["4", 8]]},
        "a layer with no name": {"channels": [[None, 8]]},
        "a layer with a number": {"channels": [[4, 8]]},
        "a layer of two lines": {"channels": [["4\n", 8]]},
        "half a layer": {"channels": [["4"]]},
        "layers by name": {"channels": {"4": 8}},
        "no layers": {"channels": []},
        "half a channel": {"channels": [["4", 8.0]]},
        "a channel that is true": {"channels": [["4", True]]},
        "fewer than no classes": {"num_classes": -5},
        "classes in words": {"num_classes": "5"},
        "classes beyond counting": {"num_classes": 10**30},
        "settings in a list": {"settings": []},
        "a setting too many": {"settings": {"width": 4}},
        "channels as a setting": {"settings": {"channels": {"4": 8}}},
        "an origin in a list": {"origin": ["resnet"]},
        "an origin of nothing": {"origin": {}},
        "no mechanism's name": {"mechanism": ["LCAMAttention"]},
        "the mechanism of no map": {"mechanism": "AttentionMechanism"},
    }.items():
        yield name, whole, {**record, **changed}
    yield "no format", whole, {**record, "format": None}
    yield "a record in a list", whole, "[]"
    yield "a record that is no JSON", whole, "{"
    yield "a record that is nested without end", whole, "[" * DEEP + "]" * DEEP
    nested = "[" * 200 + "]" * 200
    yield "a record that is nested too deep", whole, f'{{"format": 1, "origin": {nested}}}'
    yield "a number without end", whole, '{"format": ' + "1" * 10_000 + "}"


WAYS = {
    "load_attention": load_attention,
    "load": LCAMAttention.load,
    "from_pretrained": AttentionMechanism.from_pretrained,
    "grad-cam": lambda path: LearnableCAM(nn.Conv2d(3, 4, 1), [""], attention=path),
    "captum": lambda path: LayerLearnableCam(lambda x: x, nn.Identity(), path),
}


@pytest.mark.parametrize("name", [name for name, _, _ in hostile()])
@pytest.mark.parametrize("way", WAYS)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, name, way):
    path = tmp_path / "a.safetensors"
    ((tensors, record),) = [(t, r) for n, t, r in hostile() if n == name]
    path.write_bytes(joined(tensors, record))
    with pytest.raises(CheckpointError) as caught:
        WAYS[way](path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    assert len(text) < 600


@pytest.mark.parametrize("way", [*WAYS, "checkpoint"])
def test_what_is_no_file_is_refused(tmp_path, way):
    load = WAYS.get(way, checkpoint.load)
    (tmp_path / "folder" / "model.safetensors").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="is a folder, a pipe or a device"):
        load(tmp_path / "folder")
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", "/dev/zero"):  # one never begins, the other never ends
            with pytest.raises(CheckpointError, match="is a folder, a pipe or a device"):
                load(path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "missing", tmp_path / "dangling"):
        with pytest.raises(FileNotFoundError, match=path.name):
            load(path)


def test_a_file_that_may_not_be_read_is_named(unprivileged):
    path = unprivileged / "a.safetensors"
    LCAMAttention({"4": 8}, 5).save(path)
    os.chmod(path, 0)
    with pytest.raises(CheckpointError, match=r"a\.safetensors cannot be read: .*denied"):
        load_attention(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda: LCAMAttention({"2": 6, "4": 8}, 5),
        lambda: ConditionedAttention({"2": 6, "4": 8}, 5, width=4),
    ],
    ids=["rows", "conditioned"],
)
def test_the_precision_that_is_saved_is_loaded(tmp_path, make, dtype):
    attention = make().to(dtype)
    attention.save(tmp_path / "a.safetensors")
    loaded = load_attention(tmp_path / "a.safetensors").state_dict()
    for name, value in attention.state_dict().items():
        assert loaded[name].dtype == dtype
        assert torch.equal(loaded[name], value)


@pytest.mark.parametrize("way", ["file", "folder"])
def test_loading_leaves_the_random_state_as_it_was(tmp_path, way):
    attention = ConditionedAttention({"2": 6, "4": 8}, 5, width=4)
    attention.save_pretrained(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    load_attention(tmp_path if way == "folder" else tmp_path / "model.safetensors")
    assert torch.equal(torch.rand(5), expected)


class Peculiar(AttentionMechanism):
    """A constructor that reads values, weights that are one, numbers that are in no file."""

    def __init__(self, channels, num_classes, rates=2):
        super().__init__(channels, num_classes)
        self.rates = list(torch.linspace(0, 1, rates).numpy())
        self.grid = torch.arange(3.0)
        self.register_buffer("ramp", torch.linspace(0, 1, 4), persistent=False)
        self.norm = nn.BatchNorm1d(2)  # counts its batches in an integer
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.second.weight = self.first.weight

    def settings(self):
        return {"rates": len(self.rates)}


def test_a_mechanism_of_any_constructor_is_whole_when_loaded(tmp_path):
    attention = Peculiar({"4": 8}, 5, rates=3)
    attention.norm.num_batches_tracked.add_(7)
    attention.save(tmp_path / "a.safetensors")
    loaded = load_attention(tmp_path / "a.safetensors")
    assert loaded.rates == [0, 0.5, 1]
    assert loaded.grid.tolist() == [0, 1, 2]
    assert torch.equal(loaded.ramp, attention.ramp)
    assert loaded.norm.num_batches_tracked.item() == 7
    assert loaded.second.weight is loaded.first.weight
    assert torch.equal(loaded.first.weight, attention.first.weight)


def test_a_layer_that_the_model_lacks_is_named(tmp_path, tiny):
    """A mechanism that fuses layers reads all of its own, not only the target layers."""
    attention = ConditionedAttention({"9": 6, "4": 8}, 5, width=4, head="8")
    attention.save(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"\['9'\]"):
        LearnableCAM(tiny, ["4"], attention=tmp_path / "a.safetensors")


# Writing


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_written(tmp_path, value):
    attention = LCAMAttention({"4": 8}, 5)
    attention.save_pretrained(tmp_path / "folder")
    before = {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    with torch.no_grad():
        attention.biases[0][2] = value
    with pytest.raises(CheckpointError, match=r"not written: 'biases\.0' holds NaN or infinite"):
        attention.save_pretrained(tmp_path / "folder")
    assert {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()} == before


class Unwritable(LCAMAttention):
    def __init__(self, channels, num_classes, setting=None):
        super().__init__(channels, num_classes)
        self.setting = setting

    def settings(self):
        return {"setting": self.setting}


def test_what_could_not_be_read_again_is_not_written(file):
    before, deep = file.read_bytes(), []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(TypeError, match=r"a\.safetensors was not written: .*JSON.*Tensor"):
        Unwritable({"4": 8}, 5, torch.ones(1)).save(file)
    for setting in (deep, "x" * 20_000_000):
        with pytest.raises(ValueError, match=r"a\.safetensors was not written"):
            Unwritable({"4": 8}, 5, setting).save(file)
    with pytest.raises(CheckpointError, match="between 1 and 1000 layers"):
        LCAMAttention({str(i): 1 for i in range(1001)}, 1).save(file)
    assert file.read_bytes() == before


FULL = """
import resource, sys, torch
from learnable_cam_plugin import LCAMAttention
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    LCAMAttention({"4": 80}, 500).save(sys.argv[1])
except OSError as error:
    print(error)
"""


@posix
def test_a_full_disk_is_named_with_the_file_and_keeps_the_old_one(file):
    before = file.read_bytes()
    said = python(FULL, file)
    assert "cannot write" in said
    assert "the file there is as it was" in said
    assert str(file) in said
    assert file.read_bytes() == before
    assert names(file.parent) == ["a.safetensors"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_error_while_writing_is_of_the_file(file, code):
    def write():
        with atomic_path(file) as temporary:
            temporary.write_bytes(b"half")
            raise OSError(code, os.strerror(code))

    before = file.read_bytes()
    with pytest.raises(OSError, match="cannot write") as caught:
        write()
    assert (caught.value.errno, caught.value.filename) == (code, str(file))
    assert file.read_bytes() == before


def test_an_error_of_another_file_stays_what_it_is(file):
    def write():
        with atomic_path(file):
            (file.parent / "input").read_text()

    with pytest.raises(FileNotFoundError) as caught:
        write()
    assert caught.value.filename == str(file.parent / "input")


def test_a_folder_that_may_not_be_written_is_named(unprivileged):
    os.chmod(unprivileged, 0o555)
    for path in (unprivileged / "a.safetensors", unprivileged / "new" / "a.safetensors"):
        with pytest.raises(PermissionError, match="cannot write") as caught:
            LCAMAttention({"4": 8}, 5).save(path)
        assert str(path) in str(caught.value)
    os.chmod(unprivileged, 0o777)


@posix
def test_a_device_is_not_replaced_by_a_file(tmp_path):
    """A program of root's that saved to /dev/null would have taken it from the whole machine."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder"):
        with pytest.raises(OSError, match="not a file to write to") as caught:
            LCAMAttention({"4": 8}, 5).save(path)
        assert caught.value.filename == str(path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert names(tmp_path) == ["folder", "pipe"]


def test_a_link_is_followed(tmp_path):
    for name in ("store", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "store" / "a.txt").write_text("old")
    for link, target in {"link": "store/a.txt", "dangling": "elsewhere/b.txt"}.items():
        (tmp_path / link).symlink_to(tmp_path / target)
        with atomic_path(tmp_path / link) as temporary:
            temporary.write_text("new")
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / target).read_text() == "new"
        assert names((tmp_path / target).parent) == [Path(target).name]


KILLED = """
import os, signal, sys, time
from learnable_cam_plugin.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.utime(temporary, (0, 0))  # as if it had been written long ago
    print(temporary, flush=True)
    time.sleep(600)
"""


@posix
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path, monkeypatch
):
    (tmp_path / ".learnable-cam-notes.txt").write_text("not a temporary file of ours")
    os.utime(tmp_path / ".learnable-cam-notes.txt", (0, 0))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        temporary = Path(writer.stdout.readline().strip())
        try:
            with atomic_path(tmp_path / "b.txt") as other:
                other.write_text("whole")
            assert temporary.read_text() == "half"  # it lives
        finally:
            writer.send_signal(signal.SIGKILL)
    assert temporary.exists()  # nobody could tidy up
    (fresh := temporary.with_name(".learnable-cam-0123456789abcdef.txt")).write_text("fresh")
    monkeypatch.setattr(atomic, "_quiet", (Path(), 0.0))  # as some milliseconds later
    with atomic_path(tmp_path / "b.txt") as other:
        other.write_text("whole")
    assert names(tmp_path) == [fresh.name, ".learnable-cam-notes.txt", "b.txt"]


def test_a_folder_of_thousands_is_not_looked_through_at_every_write(tmp_path, monkeypatch):
    for number in range(3000):
        (tmp_path / f"{number}.png").touch()
    looks, glob = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda *given: looks.append(given) or glob(*given))
    for number in range(60):
        with atomic_path(tmp_path / f"{number}.png") as temporary:
            temporary.write_text("whole")
    assert 1 <= len(looks) < 30


@posix
def test_permissions_are_those_of_the_umask_which_is_not_touched(tmp_path, monkeypatch):
    """It is the whole process's: what is set for a moment is what other threads write with."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", lambda _: pytest.fail("the umask was set"))
            LCAMAttention({"4": 8}, 5).save(tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


@posix
def test_a_private_file_stays_private(file):
    os.chmod(file, 0o600)
    LCAMAttention({"4": 8}, 5).save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_readers_and_writers_at_once_see_whole_files(tmp_path):
    path, stop = tmp_path / "a.safetensors", threading.Event()
    attentions = [LCAMAttention({"4": 8}, 5) for _ in range(2)]
    attentions[0].save(path)
    known = [attention.weights[0].tolist() for attention in attentions]

    def write(attention):
        while not stop.is_set():
            attention.save(path)

    def read(_):
        return [load_attention(path).weights[0].tolist() for _ in range(30)]

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, attention) for attention in attentions]
        try:
            seen = [weights for each in pool.map(read, range(2)) for weights in each]
        finally:
            stop.set()
        for writer in writers:
            writer.result()
    assert all(weights in known for weights in seen)
    assert names(tmp_path) == ["a.safetensors"]


def test_an_interruption_leaves_the_old_file(file):
    def write():
        with atomic_path(file) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    before = file.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write()
    assert file.read_bytes() == before
    assert names(file.parent) == ["a.safetensors"]
