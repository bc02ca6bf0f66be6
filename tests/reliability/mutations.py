"""Attention files gone wrong: by accident, or by somebody who can put a right digest in.

`mutated` and `outcome` are for the fuzzing test, and for a soak of any length.
"""

import hashlib
import json
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch

from learnable_cam_plugin import CheckpointError, LCAMAttention, load_attention
from learnable_cam_plugin.attention import ConditionedAttention, Origin
from learnable_cam_plugin.checkpoint import digest

from ..conftest import tiny_network

KINDS = ("bytes", "header", "record", "tensors")  # the last two with a right digest
DEEP = 100_000


def whole_files(folder: Path) -> Iterator[bytes]:
    """A file of each mechanism, of known origin; of the one that reads a head, and that has one."""
    with torch.random.fork_rng():
        model = tiny_network()
        attentions = [
            LCAMAttention({"2": 6, "4": 8}, 5),
            ConditionedAttention({"2": 6, "4": 8}, 5, width=4, head="8"),
            ConditionedAttention({"2": 6, "4": 8}, 5, width=4),
        ]
    for attention in attentions:
        attention.origin = Origin.of(model, recipe={"name": "l-cam-img"}, input_size=(3, 20, 24))
        attention.save(folder / "whole.safetensors")
        yield (folder / "whole.safetensors").read_bytes()


def split(raw: bytes) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors and the record of a file."""
    (length,) = struct.unpack("<Q", raw[:8])
    metadata = json.loads(raw[8 : 8 + length])["__metadata__"]
    tensors = dict(sorted(safetensors.torch.load(raw).items()))
    return tensors, json.loads(metadata["learnable_cam_plugin"])


def joined(tensors: dict[str, torch.Tensor], record: dict | str) -> bytes:
    """A file with a right digest, whatever the record is."""
    text = record if isinstance(record, str) else json.dumps(record)
    metadata = {"learnable_cam_plugin": text, "sha256": digest(tensors, text)}
    return safetensors.torch.save(tensors, metadata)


def kind_of(seed: int) -> str:
    return KINDS[seed % len(KINDS)]


def mutated(raw: bytes, seed: int) -> bytes:
    """The file `raw` with something of it changed; of the kind `kind_of(seed)`."""
    choose = random.Random(seed)
    return {"bytes": _bytes, "header": _header, "record": _record, "tensors": _tensors}[
        kind_of(seed)
    ](raw, choose)


def outcome(path: Path) -> str:
    """'refused: why', or 'loaded ' and a digest of what was; anything else is raised.

    What was loaded is used, saved and loaded again: a file is not taken and then found wanting.
    """
    before = torch.get_rng_state()
    attention, refusal = None, ""
    try:
        attention = load_attention(path)
    except (CheckpointError, FileNotFoundError) as error:
        refusal = str(error)
    assert torch.equal(torch.get_rng_state(), before)
    if attention is None:
        assert len(refusal) < 1200, len(refusal)
        assert refusal.isprintable(), refusal
        return f"refused: {refusal}"
    state = attention.state_dict()
    assert not any(value.is_meta for value in [*state.values(), *attention.buffers()])
    features = {name: torch.ones(2, c, 3, 4) for name, c in attention.channels.items()}
    if getattr(attention, "head", None) is None:
        maps = attention(features, torch.tensor([0, attention.num_classes - 1]))
        assert all(m.shape == (2, 3, 4) for m in maps)
    with tempfile.TemporaryDirectory() as folder:
        attention.save_pretrained(folder)
        again = load_attention(folder)
    assert type(again) is type(attention)
    assert again.origin == attention.origin
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    content = [type(attention).__name__, attention.channels, attention.settings(), state]
    return "loaded " + hashlib.sha256(repr(content).encode()).hexdigest()


def _place(raw: bytes, choose: random.Random) -> int:
    return choose.randrange(len(raw))


def _bytes(raw: bytes, choose: random.Random) -> bytes:
    at, count = _place(raw, choose), choose.choice([1, 1, 2, 8, 100])
    noise = choose.randbytes(count)
    return choose.choice(
        [
            raw[:at] + noise + raw[at + count :],
            raw[:at] + bytes([raw[at] ^ (1 << choose.randrange(8))]) + raw[at + 1 :],
            raw[:at] + noise + raw[at:],
            raw[:at] + raw[at + count :],
            raw[:at],
            raw + noise,
            noise,
            choose.randbytes(choose.randrange(2000)),
            raw[at:] + raw[:at],
            b"",
        ]
    )


def _header(raw: bytes, choose: random.Random) -> bytes:
    """The list of tensors, with another length, other types, shapes and places."""
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    if choose.random() < 0.2:
        claimed = choose.choice([0, 1, length - 1, length + 1, len(raw), 2**31, 2**62, 2**64 - 1])
        return struct.pack("<Q", claimed) + raw[8:]
    name = choose.choice(list(header))
    entry = header[name]
    if name != "__metadata__" and choose.random() < 0.8:
        field = choose.choice(list(entry))
        entry[field] = choose.choice(
            [
                _value(choose),
                choose.choice(["F16", "F64", "I64", "BOOL", "F8_E4M3", "C64", "U16", "F4", ""]),
                [choose.choice([0, 1, 2, 5, 8, -1, 2**40, 2**63]) for _ in range(2)],
            ]
        )
    elif choose.random() < 0.5:
        header[choose.choice([name, "more"])] = choose.choice([_value(choose), entry])
    else:
        entry[choose.choice(list(entry))] = _value(choose)
    text = _dumped(header, choose)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def _record(raw: bytes, choose: random.Random) -> bytes:
    """What the file says of itself."""
    tensors, record = split(raw)
    places = [(record, key) for key in record]
    for parent, key in places:  # grows as it goes down
        child = parent[key]
        if isinstance(child, dict):
            places += [(child, name) for name in child]
        elif isinstance(child, list):
            places += [(child, index) for index in range(min(len(child), 4))]
    # what is deepest is most often met
    near = [place for place in places if place[0] is record]
    parent, key = choose.choice(choose.choice([places, near]))
    if choose.random() < 0.15:
        del parent[key]
    elif isinstance(parent, dict) and choose.random() < 0.1:
        parent[choose.choice(["", "self", "config", "channels", "width", "meta"])] = _value(choose)
    elif isinstance(parent[key], list) and choose.random() < 0.3:
        parent[key] = parent[key] * choose.choice([0, 2, 400])
    else:
        parent[key] = _value(choose)
    text = _dumped(record, choose).decode(errors="replace")
    return joined(tensors, text)


def _tensors(raw: bytes, choose: random.Random) -> bytes:
    """What the file holds."""
    tensors, record = split(raw)
    name = choose.choice(list(tensors))
    tensor = tensors[name].clone()
    kinds = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool]
    kinds += [torch.complex64, torch.float8_e4m3fn, torch.uint8]
    flat = tensor.view(-1)
    change = choose.randrange(8)
    if change == 0:
        del tensors[name]
    elif change == 1:
        tensors[choose.choice(["more", "weights.7", "vectors", ""])] = tensor
    elif change == 2:
        tensors[name] = tensor.to(choose.choice(kinds))
    elif change == 3:
        kind = choose.choice(kinds)
        tensors = {key: value.to(kind) for key, value in tensors.items()}
    elif change == 4:
        flat[choose.randrange(len(flat))] = choose.choice([torch.nan, torch.inf, -torch.inf])
        tensors[name] = tensor
    elif change == 5:
        tensors[name] = choose.choice([flat, tensor[None], flat[:0], flat[:1], tensor[:-1]])
    elif change == 6:
        tensors[name] = tensor.transpose(0, -1).contiguous()
    else:
        flat[choose.randrange(len(flat))] = choose.choice([0.0, -1.0, 3e38, 1e-45])
        tensors[name] = tensor
    return joined(tensors, record)


def _value(choose: random.Random):
    """A JSON value that nobody expects there."""
    number = choose.choice([0, 1, -1, 3, 1000, 20_000_000, 2**31, 2**63, 10**30, -(2**70)])
    nested = choose.choice([[], {}, [1], [[1]], {"a": 1}, [["2", 6]], [["2", 6], ["2", 6]]])
    text = choose.choice(["", "2", "meta", "LCAMAttention", "x" * 5000, "\ud800", "\x00\n", "8"])
    odd = choose.choice([True, False, None, 1.5, 1e308, float("nan"), float("inf"), "DEEP"])
    return choose.choice([number, nested, text, odd])


def _dumped(value, choose: random.Random) -> bytes:
    """JSON; where it says DEEP, lists in lists, from a few to more than any parser takes."""
    depth = choose.choice([5, 40, 60, 900, DEEP])
    text = json.dumps(value).replace('"DEEP"', "[" * depth + "]" * depth)
    if choose.random() < 0.05:
        text = text.replace("1", "1" * choose.choice([20, 400, 5000]), 1)
    return text.encode()
