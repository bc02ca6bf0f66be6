"""A hundred kinds of input that are none, and what of each the refusal has to say."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner
from PIL import Image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, SemanticSegmentationTarget
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from learnable_cam_plugin import (
    EveryThreshold,
    LayerLearnableCam,
    LCAMAttention,
    LCAMRecipe,
    LearnableCAM,
    LearnableCAMTrainer,
    LossWeights,
    Normalization,
    calibrate,
    condition,
    load_attention,
    random_attention,
    register_recipe,
)
from learnable_cam_plugin.cli import main as command
from learnable_cam_plugin.data import PhotoFolder, draw_images, mosaics, read_photo
from learnable_cam_plugin.masking import mask_image
from learnable_cam_plugin.metrics import average_drop, bootstrap

from ..conftest import UNIT, tiny_network

# what a refusal may be; anything else, such as an AttributeError, names nothing
CLEAR = (AssertionError, IndexError, OSError, RuntimeError, TypeError, ValueError)
IMAGES = torch.rand(4, 3, 20, 24, generator=torch.Generator().manual_seed(1))
CLASSES = torch.tensor([0, 1, 2, 3])


@dataclass(frozen=True)
class Input:
    """`act(folder)` must be refused, with a message that matches."""

    act: Callable[[Path], object]
    message: str


def rows():
    return random_attention(tiny_network(), ["4"], IMAGES)


def cam(images=IMAGES, targets=None, layers=("4",), model=None, attention=None, **more):
    model = tiny_network() if model is None else model
    return LearnableCAM(model, layers, attention=rows() if attention is None else attention)(
        images, targets, **more
    )


def classic(model, layers=("4",), images=IMAGES):
    return LearnableCAM(model, layers, attention="head")(images)


def captum(images=IMAGES, target=1, layer=None, **more):
    model = tiny_network()
    layer = model[4] if layer is None else layer
    return LayerLearnableCam(model, layer, rows()).attribute(images, target, **more)


def trainer(**settings):
    known = {"normalization": UNIT, "progress": False, "device": "cpu", "epochs": 1}
    model = settings.pop("model", None) or tiny_network()
    layers = settings.pop("layers", ["4"])
    return LearnableCAMTrainer(model, layers, **{**known, **settings})


def fit(loader, val=None, **settings):
    return trainer(**settings).fit(loader, val)


def targets(category):
    return [ClassifierOutputTarget(category)] * 4


def written(folder: Path, content: bytes, name: str = "file.safetensors") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def png(folder: Path, content: bytes | None = None, size=(8, 8), cut: int = 0) -> Path:
    if content is None:
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "PNG")
        content = buffer.getvalue()
    return written(folder, content[: len(content) - cut], "photo.png")


def told(*arguments: object) -> None:
    """The command's refusal, as an error."""
    run = CliRunner().invoke(command, [str(one) for one in arguments])
    assert run.exit_code in (1, 2), run.output
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    assert "Traceback" not in run.output
    raise RuntimeError(run.output)


class Tuples(nn.Module):
    """A network whose layer, and whose output, are tuples."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_network()
        self.pair = nn.Identity()
        self.pair.forward = lambda x: (x, x)

    def forward(self, images):
        return self.pair(self.inner(images))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.tokens = nn.Identity()
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        patches = self.embed(images).flatten(2).transpose(1, 2)
        return self.head(self.tokens(patches[:, 1:]).mean(1))  # 29 tokens are no grid


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])


def logit():
    return tiny_network(num_classes=1)


def probabilities():
    return nn.Sequential(*tiny_network(), nn.Softmax(1))


def without_gradients():
    model = tiny_network()
    model.forward = torch.no_grad()(partial(nn.Sequential.forward, model))
    return model


def labelled(labels):
    return [(IMAGES, labels)]


BATCH = [IMAGES]
INPUTS: dict[str, Input] = {
    # layers
    "a layer of another model": Input(
        lambda f: classic(tiny_network(), [nn.ReLU()]),
        "a ReLU is not a module of Sequential.*named_modules",
    ),
    "the name of no layer": Input(
        lambda f: classic(tiny_network(), ["layer4"]), "'layer4' is not a module of"
    ),
    "one layer, not a list": Input(
        lambda f: classic(tiny_network(), "4"), "must be a list of layers, got one"
    ),
    "no layers": Input(lambda f: classic(tiny_network(), []), "target_layers is empty"),
    "a layer that gives a tuple": Input(
        lambda f: classic(Tuples(), ["pair"]), "gives a tuple, not a tensor.*reshape_transform"
    ),
    "a layer that gives tokens": Input(
        lambda f: classic(Tokens(), ["tokens"]),
        r"gives \(4, 29, 8\), not feature maps.*reshape_transform",
    ),
    "a layer that gives vectors": Input(
        lambda f: classic(tiny_network(), ["6"]), r"gives \(4, 8\), not feature maps"
    ),
    "an earlier layer without an attention": Input(
        lambda f: classic(tiny_network(), ["1"]), "global average pooling.*calibrate"
    ),
    "a model that gives a tuple": Input(
        lambda f: classic(Tuples(), ["inner.4"]), "returns a tuple.*wrap the model"
    ),
    "a model that gives maps": Input(lambda f: classic(tiny_network()[:5], ["4"]), "class scores"),
    "no model": Input(
        lambda f: LearnableCAM("resnet50", ["4"]), "model must be a torch.nn.Module.*got a str"
    ),
    "a model class, not a model": Input(
        lambda f: LearnableCAM(nn.Sequential, ["4"]), "an instance of it, got Sequential"
    ),
    # attentions
    "an attention of other layers": Input(lambda f: cam(layers=["1"]), r"no map for \['1'\]"),
    "an attention of another model": Input(
        lambda f: cam(model=tiny_network(seed=5)), "other values.*attention.origin = None"
    ),
    "an attention of another number of classes": Input(
        lambda f: cam(model=tiny_network(7)), r"\(5, 8\) then, \(7, 8\) now"
    ),
    "an attention of other channels": Input(
        lambda f: cam(attention=LCAMAttention({"4": 9}, 5)),
        "8 channels, the attention was made for 9",
    ),
    "an attention of no file": Input(
        lambda f: cam(attention=f / "none.safetensors"), "none.safetensors"
    ),
    "an attention of a mistyped path": Input(lambda f: cam(attention="models/typo"), "hf://"),
    "an empty folder": Input(lambda f: load_attention(f), re.escape("model.safetensors")),
    "an attention that is a number": Input(lambda f: load_attention(7), "got int"),
    "an attention that is another module": Input(
        lambda f: load_attention(nn.Linear(2, 2)), "got Linear"
    ),
    "a pickle": Input(lambda f: load_attention(written(f, b"\x80\x04\x95pickle")), "pickle"),
    "an empty file": Input(lambda f: load_attention(written(f, b"")), "whole safetensors file"),
    "no channels": Input(lambda f: LCAMAttention({}, 5), "at least one layer"),
    "no classes": Input(
        lambda f: LCAMAttention({"4": 8}, 0), "at least one layer, channel and class"
    ),
    # images
    "numpy images": Input(lambda f: cam(IMAGES.numpy()), "got ndarray: use torch.from_numpy"),
    "a list of images": Input(lambda f: cam(list(IMAGES)), r"got list: use torch.stack\(images\)"),
    "a PIL image": Input(lambda f: cam(Image.new("RGB", (8, 8))), "torch.Tensor, got Image"),
    "a path instead of images": Input(lambda f: cam("cat.jpg"), "torch.Tensor, got str"),
    "None instead of images": Input(lambda f: cam(None), "torch.Tensor, got NoneType"),
    "one image without a batch": Input(lambda f: cam(IMAGES[0]), r"Use image\[None\]"),
    "an empty batch": Input(lambda f: cam(IMAGES[:0]), "no empty dimension"),
    "bytes": Input(lambda f: cam((IMAGES * 255).byte()), "images of torch.uint8"),
    "double images": Input(lambda f: cam(IMAGES.double()), "images of torch.float64"),
    "NaN in one image": Input(
        lambda f: cam(IMAGES.index_fill(0, torch.tensor([2]), torch.nan)),
        r"images \[2\] of the batch hold NaN",
    ),
    "infinite pixels": Input(lambda f: cam(IMAGES / 0), "hold NaN or infinite pixels"),
    "pixels of 1e37": Input(lambda f: cam(IMAGES * 1e37), "the images reach"),
    "two channels": Input(lambda f: cam(IMAGES[:, :2]), "to have 3 channels"),
    "numpy images, smoothed": Input(lambda f: cam(IMAGES.numpy(), aug_smooth=True), "got ndarray"),
    # targets
    "a tensor of targets": Input(
        lambda f: cam(targets=CLASSES), "a list with one target an image.*got a Tensor"
    ),
    "integers as targets": Input(lambda f: cam(targets=[1, 2, 3, 4]), "int names no class"),
    "a target too few": Input(
        lambda f: cam(targets=targets(1)[:3]), "4 images need 4 targets, or one, got 3"
    ),
    "a class out of range": Input(
        lambda f: cam(targets=targets(5)), "class index 5 is out of range: the classes are 0 to 4"
    ),
    "a class below all": Input(
        lambda f: cam(targets=targets(-6)), "class index -6 is out of range"
    ),
    "a class that is half": Input(lambda f: cam(targets=targets(1.5)), "names no class"),
    "a class that is True": Input(lambda f: cam(targets=targets(True)), "names no class"),
    "a segmentation target": Input(
        lambda f: cam(targets=[SemanticSegmentationTarget(1, np.ones((2, 2)))] * 4),
        "names no class",
    ),
    # Captum
    "Captum: no target": Input(lambda f: captum(target=None), "Target not provided"),
    "Captum: float targets": Input(
        lambda f: captum(target=CLASSES.float()), "class indices are integers"
    ),
    "Captum: bool targets": Input(
        lambda f: captum(target=CLASSES > 1), "class indices are integers"
    ),
    "Captum: a target too few": Input(lambda f: captum(target=[1, 2]), "Target list length"),
    "Captum: a target of three columns": Input(
        lambda f: captum(target=(1, 2, 3)), "Cannot choose target column"
    ),
    "Captum: a class out of range": Input(
        lambda f: captum(target=9), "class index 9 is out of range"
    ),
    "Captum: a word as target": Input(lambda f: captum(target="cat"), "is not valid"),
    "Captum: numpy images": Input(lambda f: captum(IMAGES.numpy()), "got ndarray"),
    "Captum: half images": Input(lambda f: captum(IMAGES.half()), "images of torch.float16"),
    "Captum: a function and an attention of two layers": Input(
        lambda f: LayerLearnableCam(
            lambda x: x, nn.ReLU(), random_attention(tiny_network(), ["1", "4"], IMAGES)
        ),
        "cannot be seen through a function",
    ),
    # starts
    "calibrated on numpy": Input(
        lambda f: calibrate(tiny_network(), ["4"], IMAGES.numpy()), "got ndarray"
    ),
    "conditioned on NaN": Input(
        lambda f: condition(tiny_network(), ["4"], IMAGES * torch.nan), "hold NaN"
    ),
    "conditioned with an unknown setting": Input(
        lambda f: condition(tiny_network(), ["4"], IMAGES, trusted=1.0), "trusted"
    ),
    # normalisation
    "no numbers for the mean": Input(
        lambda f: Normalization("imagenet", 1), "mean must be one number a channel, got 'imagenet'"
    ),
    "std of 0": Input(lambda f: Normalization(0.5, 0), "std must be above 0"),
    "two means, three deviations": Input(
        lambda f: Normalization([0, 0], [1, 1, 1]), "one value a channel each"
    ),
    "a mean that is NaN": Input(lambda f: Normalization(float("nan"), 1), "mean must be finite"),
    "a normalisation of other channels": Input(
        lambda f: mask_image(IMAGES, IMAGES[:, 0], Normalization([0, 0], [1, 1])),
        "2 channels, the images 3",
    ),
    "an unknown filling": Input(
        lambda f: mask_image(IMAGES, IMAGES[:, 0], UNIT, "white"),
        "filling is 'white'; it must be one of",
    ),
    # the trainer's arguments
    "no normalisation": Input(lambda f: trainer(normalization=None), "normalization is missing"),
    "epochs of 0": Input(lambda f: trainer(epochs=0), "epochs must be at least 1, got 0"),
    "epochs of NaN": Input(
        lambda f: trainer(epochs=float("nan")), "epochs must be a whole number, got nan"
    ),
    "epochs of 1.5": Input(lambda f: trainer(epochs=1.5), "epochs must be a whole number, got 1.5"),
    "patience of -1": Input(lambda f: trainer(patience=-1), "patience must be at least 1, got -1"),
    "patience without validation": Input(
        lambda f: fit(BATCH, patience=2), "patience needs a val_loader"
    ),
    "seed of -1": Input(lambda f: trainer(seed=-1), "seed must be at least 0, got -1"),
    "seed of 2 ** 40": Input(lambda f: trainer(seed=2**40), "seed must be below"),
    "a state every 0 steps": Input(
        lambda f: trainer(checkpoint_every=0), "checkpoint_every must be at least 1"
    ),
    "device tpu": Input(lambda f: trainer(device="tpu"), "device must be None or 'cpu', got 'tpu'"),
    "precision fp8": Input(lambda f: trainer(mixed_precision="fp8"), "mixed_precision must be"),
    "an unknown recipe": Input(
        lambda f: trainer(recipe="l-cam"), "there is no recipe 'l-cam'; there are"
    ),
    "a recipe that is a class": Input(lambda f: trainer(recipe=LossWeights()), "it lacks"),
    "a recipe's name twice": Input(
        lambda f: register_recipe(EveryThreshold()), "there is a recipe 'every-threshold' already"
    ),
    "an unknown start": Input(lambda f: trainer(start="zero"), "start must be one of"),
    "unknown labels": Input(
        lambda f: trainer(labels="mine"), "labels must be 'predicted' or 'dataset', got 'mine'"
    ),
    "a learning rate of 0": Input(
        lambda f: LCAMRecipe("mine", "image", learning_rate=0), "learning_rate must be above 0"
    ),
    "shares of more than all": Input(
        lambda f: EveryThreshold(whole=0.8, removed=0.5), "more than all"
    ),
    "an output folder that is a file": Input(
        lambda f: fit(BATCH, output_dir=written(f, b"x")), "file.safetensors"
    ),
    # loaders
    "an empty loader": Input(lambda f: fit([]), "training loader is empty"),
    "a generator": Input(lambda f: fit(iter(BATCH)), "can be iterated once, as a generator can"),
    "an empty validation loader": Input(lambda f: fit(BATCH, []), "validation loader is empty"),
    "a number instead of a loader": Input(lambda f: fit(3), "got a int"),
    "an empty stream": Input(lambda f: fit(DataLoader(Endless())), "is empty"),
    "a dictionary without images": Input(
        lambda f: fit([{"x": IMAGES}]), r"one of \['image', .*it has the keys \['x'\]"
    ),
    "batches of strings": Input(lambda f: fit(["photo"]), "must give batches of images"),
    "batches of bytes": Input(lambda f: fit([(IMAGES * 255).byte()]), "must be floating-point"),
    "images of another normalisation": Input(
        lambda f: fit([IMAGES * 2 - 1]), r"not \[0, 1\]: declare the normalisation"
    ),
    "a later batch of another normalisation": Input(
        lambda f: fit([IMAGES, IMAGES * 2 - 1]), r"not \[0, 1\]: declare the normalisation"
    ),
    "NaN in a batch": Input(lambda f: fit([IMAGES * torch.nan]), "hold NaN"),
    "labels that are missing": Input(
        lambda f: fit(BATCH, labels="dataset"), r"needs a loader of \(images, labels\)"
    ),
    "labels out of range": Input(
        lambda f: fit(labelled(CLASSES + 4), labels="dataset"), "labels range from 4 to 7"
    ),
    "labels that are halves": Input(
        lambda f: fit(labelled(CLASSES / 2), labels="dataset"), "labels must be integers"
    ),
    # classifiers to train beside
    "one logit": Input(lambda f: fit(BATCH, model=logit()), "the model gives one score"),
    "probabilities": Input(lambda f: fit(BATCH, model=probabilities()), "gives probabilities"),
    "a half model": Input(lambda f: fit(BATCH, model=tiny_network().half()), "in torch.float16"),
    "a forward without gradients": Input(
        lambda f: fit(BATCH, model=without_gradients()), "no gradient gets from"
    ),
    "layers in the wrong order": Input(
        lambda f: fit(BATCH, layers=["4", "1"]), r"so pass \['1', '4'\]"
    ),
    # photographs, data and figures
    "no photograph": Input(lambda f: read_photo(f / "cat.jpg"), "there is no photograph at"),
    "a text named as a photograph": Input(
        lambda f: read_photo(png(f, b"hello")), "photo.png is not a readable image"
    ),
    "half a photograph": Input(
        lambda f: read_photo(png(f, size=(90, 90), cut=60)), "not a readable image"
    ),
    "a folder without photographs": Input(lambda f: PhotoFolder(f, UNIT), "no photograph"),
    "no folder of photographs": Input(
        lambda f: PhotoFolder(f / "none", UNIT), "no folder of photographs at"
    ),
    "no drawn images": Input(lambda f: draw_images(0, 1), "count must be at least 1, got 0"),
    "a mosaic of three images": Input(
        lambda f: mosaics(IMAGES[:3], CLASSES[:3], 1, 0), "four different classes"
    ),
    "a drop of NaN": Input(
        lambda f: average_drop(torch.tensor([0.5]), torch.tensor([torch.nan])),
        "got nan for image 0",
    ),
    "a drop of two lengths": Input(
        lambda f: average_drop(torch.ones(3), torch.ones(2)), r"\(3,\).*\(2,\)"
    ),
    "an interval of nothing": Input(lambda f: bootstrap(torch.ones(0)), r"got \(0,\)"),
    # the command
    "explain: no such photograph": Input(
        lambda f: told("explain", f / "none.jpg", "--out", f / "o"), "none.jpg"
    ),
    "explain: top 0": Input(lambda f: told("explain", "--top", 0), "--top"),
    "explain: top 5000": Input(lambda f: told("explain", "--top", 5000), "--top"),
    "explain: a file as the folder": Input(
        lambda f: told("explain", "--out", written(f, b"")), "is a file"
    ),
    "quickstart: seed -1": Input(lambda f: told("quickstart", "--seed", -1), "--seed"),
    "an unknown command": Input(lambda f: told("explian"), "No such command 'explian'"),
}


def refused(name: str, folder: Path) -> str:
    """The refusal of an input; AssertionError if it is taken, or the message is another one."""
    given = INPUTS[name]
    message = None
    try:
        given.act(folder)
    except CLEAR as error:
        message = str(error)
    assert message is not None, f"{name}: it was taken"
    assert re.search(given.message, message, re.DOTALL), f"{name}: {message!r}"
    return message
