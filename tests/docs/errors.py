"""How a user meets each error of docs/troubleshooting.md: heading -> what raises it.

Each is called in an empty folder with what the prelude `classifier` gives.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, RawScoresOutputTarget
from torch import nn

from learnable_cam_plugin import (
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
    LearnableCAMTrainer,
    calibrate,
    export_onnx,
    load_attention,
    load_classifier,
)
from learnable_cam_plugin.data import read_photo
from learnable_cam_plugin.metrics import drops, keep_top
from learnable_cam_plugin.runtime import Explainer

from .preludes import IMAGENET, TinyResNet, TinyViT, vgg


def trained(given: Any, loader: Any = None, **settings: Any) -> None:
    settings = {"normalization": IMAGENET, "epochs": 1, "progress": False, **settings}
    model = settings.pop("model", given["model"])
    layers = settings.pop("layers", ["layer4"])
    trainer = LearnableCAMTrainer(model, layers, device="cpu", **settings)
    trainer.fit(given["train_loader"] if loader is None else loader)


def twice(given: Any) -> None:
    trained(given, output_dir="my-training")
    trained(given, output_dir="my-training")


def resumed(given: Any) -> None:
    for seed in (0, 1):
        settings = {"normalization": IMAGENET, "epochs": 1, "progress": False, "device": "cpu"}
        trainer = LearnableCAMTrainer(
            given["model"], ["layer4"], seed=seed, output_dir="my-training", **settings
        )
        trainer.fit(given["train_loader"], resume=True)


def one_pass(given: Any) -> None:
    loader = iter(given["train_loader"])
    trained(given, (batch for batch in loader), epochs=2)


def pickled(given: Any) -> None:
    torch.save({"weight": torch.zeros(2)}, "attention.pt")
    load_attention("attention.pt")


def altered(given: Any) -> None:
    path = Path("my-attention/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    load_attention("my-attention")


def foreign(given: Any) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, "other.safetensors")
    load_attention("other.safetensors")


def not_written(given: Any) -> None:
    attention = load_attention("my-attention")
    with torch.no_grad():
        next(attention.parameters()).fill_(torch.nan)
    attention.save_pretrained("my-attention")


def gone(given: Any) -> None:
    class Elsewhere(LCAMAttention):
        pass

    Elsewhere({"layer4": 12}, 1000).save("elsewhere.safetensors")
    Elsewhere.__name__ = "Renamed"
    load_attention("elsewhere.safetensors")


def other_network(given: Any) -> None:
    class Another(TinyResNet):
        pass

    other = Another()
    other.layer3 = nn.Sequential(*other.layer3, nn.BatchNorm2d(8))
    LearnableCAM(other, [other.layer4[-1]], attention="my-attention")


def not_finite(given: Any) -> None:
    from learnable_cam_plugin import LCAMRecipe, LossWeights

    loss = LossWeights(cross_entropy=torch.inf)
    trained(given, recipe=LCAMRecipe("l-cam-img", mask="image", loss=loss))


def one_logit(given: Any) -> None:
    model = TinyResNet()
    model.fc = nn.Linear(12, 1)
    trained(given, model=model)


def volumes(given: Any) -> None:
    model = nn.Sequential(
        nn.Conv3d(3, 4, 3, 2), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    trained(given, [IMAGENET.normalize(torch.rand(2, 3, 8, 16, 16))], model=model, layers=["0"])


def wrapped_output(given: Any) -> None:
    class Wrapped(TinyResNet):
        def forward(self, x: torch.Tensor) -> Any:
            return {"scores": super().forward(x)}

    model = Wrapped()
    LearnableCAM(model, [model.layer4])(given["x"])


def tokens_masked(given: Any) -> None:
    from pytorch_grad_cam.utils.reshape_transforms import vit_reshape_transform

    images = IMAGENET.normalize(torch.rand(2, 3, 224, 224))
    layers = ["encoder.layers.encoder_layer_10"]
    settings = {"model": TinyViT(), "layers": layers, "recipe": "l-cam-fm"}
    trained(given, [images], reshape_transform=vit_reshape_transform, **settings)


def two_targets(given: Any) -> None:
    given["cam"](given["images"], [ClassifierOutputTarget(281)] * 2)


def nan_images(given: Any) -> None:
    x = given["x"].clone()
    x[0, 0, 0, 0] = torch.nan
    given["cam"](x)


def too_large(given: Any) -> None:
    Image.new("1", (10_000, 9_000)).save("big.png")
    read_photo("big.png")


def through_a_function(given: Any) -> None:
    attention = LCAMAttention({"layer3": 8, "layer4": 12}, 1000)
    LayerLearnableCam(lambda x: given["model"](x), given["model"].layer4, attention)


def two_layers(given: Any) -> None:
    model = given["model"]
    LearnableCAM(model, [model.layer3[-1], model.layer4[-1]], attention="my-attention")


def without_reshape(given: Any) -> None:
    vit = TinyViT(extra=3)
    LearnableCAM(vit, [vit.encoder.ln])(torch.rand(1, 3, 224, 224))


def two_linear_layers(given: Any) -> None:
    model = vgg()["vgg"]
    LearnableCAM(model, [model.features[-1]], attention="head")(torch.rand(1, 3, 32, 32))


def no_maps(given: Any) -> None:
    LearnableCAM(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)))(torch.rand(2, 3, 32, 32))


def not_read(given: Any) -> None:
    vit = TinyViT()
    calibrate(vit, [vit.encoder.ln], torch.rand(2, 3, 224, 224))


def probabilities(given: Any) -> None:
    trained(given, model=nn.Sequential(TinyResNet(), nn.Softmax(1)), layers=["0.layer4"])


def channels_last(given: Any) -> None:
    class Tokens(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool2d(x, 4).permute(0, 2, 3, 1)

    class Pool(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2))

    model = nn.Sequential(Tokens(), Pool(), nn.Linear(3, 5))
    trained(given, [IMAGENET.normalize(torch.rand(2, 3, 32, 32))], model=model, layers=["0"])


def explained_otherwise(given: Any) -> None:
    from learnable_cam_plugin.cli.records import records

    for top in (1, 2):
        with records(Path("explained"), {"top": top}):
            pass


def no_class(given: Any) -> None:
    from learnable_cam_plugin.analysis.labels import photographs

    Path("photos/cats").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("photos/cats/a.png")
    photographs("photos", None, ["cat", "dog"])


def no_normalisation(given: Any) -> None:
    from learnable_cam_plugin.cli.classifiers import open_classifier
    from learnable_cam_plugin.cli.common import Chosen

    open_classifier(Chosen("tests.cli.networks:bare", None, None, None, "cpu"))


def other_weights(given: Any) -> None:
    model = given["other_model"]
    LearnableCAM(model, [model.layer4[-1]], attention="my-attention")


def foreign_weights(given: Any) -> None:
    torch.save(load_classifier("torchvision:resnet18", "random", 7).model.state_dict(), "mine.pth")
    load_classifier("torchvision:resnet18", weights="mine.pth")


def branching(given: Any) -> None:
    """A classifier that asks what its scores are."""

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = given["model"]

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scores = self.network(images)
            return scores if float(scores.detach().mean()) > 0 else 2 * scores

    export_onnx(Branching().eval(), "explained.onnx", given["images"])


def one_size(given: Any) -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(12 * 16, 5))
    model = nn.Sequential(given["model"].layer3, given["model"].layer4, head).eval()
    attention = calibrate(model, ["1"], given["images"])
    images = given["images"]
    export_onnx(model, "explained.onnx", images, attention=attention, dynamic_size=True)


def top_of_a_file(given: Any) -> None:
    export_onnx(
        given["model"],
        "explained.onnx",
        given["images"],
        attention="my-attention",
        normalization=IMAGENET,
    )
    Explainer("explained.onnx").explain(Image.new("RGB", (40, 40)), [281])


ERRORS = {
    "torch.export cannot trace the model": branching,
    "A graph of one height and width": one_size,
    "This file explains the top class": top_of_a_file,
    "The layer is not part of the model": lambda g: LearnableCAM(g["model"], [nn.Conv2d(3, 4, 3)]),
    "The attention has no map for the layer": two_layers,
    "The layer gives tokens": without_reshape,
    "L-CAM-Fm on tokens": tokens_masked,
    "The head is not pooling and one linear layer": two_linear_layers,
    "Nothing to map": no_maps,
    "The head reads no place": not_read,
    "The model returns something other than a tensor": wrapped_output,
    "A single logit": one_logit,
    "Volumes": volumes,
    "The model has other weights": other_weights,
    "The model is another one": other_network,
    "A pickle, or half a file": pickled,
    "A safetensors file of something else": foreign,
    "The file was altered": altered,
    "The mechanism is not known": gone,
    "There is no attention": lambda g: load_attention("my-atention"),
    "The weights are not finite": not_written,
    "The classifier is not on this machine": lambda g: load_classifier("transformers:owner/name"),
    "Weights of another network": foreign_weights,
    "Targets without a class": lambda g: g["cam"](g["x"], [RawScoresOutputTarget()]),
    "Another number of targets than of images": two_targets,
    "The class is out of range": lambda g: g["cam"](g["x"], [ClassifierOutputTarget(1000)]),
    "A single image": lambda g: g["cam"](g["x"][0]),
    "NaN in the images": nan_images,
    "The photograph cannot be read": too_large,
    "A function and an attention of several layers": through_a_function,
    "The normalisation is missing": lambda g: trained(g, normalization=None),
    "The normalisation is not the loader's": lambda g: trained(g, [g["images"] * 3]),
    "There is a training in the folder": twice,
    "The training had other settings": resumed,
    "The loader is used up": one_pass,
    "The recipe has no such start": lambda g: trained(g, start="random"),
    "The loss is not finite": not_finite,
    "The model gives probabilities": probabilities,
    "Channels that come last": channels_last,
    "The head reads another layer than the last": lambda g: trained(g, layers=["layer4", "layer3"]),
    "Maps that are not in [0, 1]": lambda g: keep_top(torch.full((1, 4, 4), 2.0), 0.5),
    "The folder holds other explanations": explained_otherwise,
    "The normalisation of a function's model": no_normalisation,
    "A label is no class": no_class,
    "A confidence of 0": lambda g: drops(torch.tensor([0.0]), torch.tensor([0.0])),
}


def raised(heading: str, given: Any) -> BaseException | None:
    """What a user gets."""
    try:
        ERRORS[heading](given)
    except Exception as error:
        return error
    finally:
        shutil.rmtree("my-training", ignore_errors=True)
    return None
