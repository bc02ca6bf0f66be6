"""What the methods are compared on: the classifier, the images, the classes, the mosaics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from learnable_cam_plugin import FrozenClassifier, Normalization
from learnable_cam_plugin.classifier import device_of, predict
from learnable_cam_plugin.data import CLASSES, NORMALIZATION, SIZE, draw_images
from learnable_cam_plugin.data import mosaics as draw_mosaics
from learnable_cam_plugin.metrics import confidence
from learnable_cam_plugin.pretrained import small_network

from .protocol import FOLDER, NetworkSettings, Protocol, load_protocol
from .sources import load_network, load_photos, shapes_classifier, side_of

# explained -> the protocol that names its layers, and the second classifier
NETWORKS = {"efficientnet-lite0": ("photos", 2), "efficientnet-lite2": ("photos-lite2", 0)}


def in_parts(call: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`call` of tensors (N, ...), 32 of each at a time."""
    parts = zip(*(tensor.split(32) for tensor in tensors), strict=True)
    return torch.cat([call(*part) for part in parts])


@dataclass(frozen=True)
class Pictures:
    """The images explained (N, C, H, W), normalised; a class of each (N,), predicted or drawn, and
    its probability (N,); and where it is (N, H, W), bool, if that is known."""

    images: Tensor
    titles: list[str]
    classes: Tensor
    confidence: Tensor
    regions: Tensor | None = None


@dataclass(frozen=True)
class Mosaics:
    """The mosaics (M, C, H, W) of the Grid Pointing Game, the classes explained (M,) and the cells
    (M,) in which these are; see `metrics.mosaics`."""

    images: Tensor
    classes: Tensor
    cells: Tensor


@dataclass(frozen=True)
class Testbed:
    """Everything that a method or a metric is handed; the classifier is in eval mode.

    Attributes:
        common: (n,) indices of the images on which every method is scored.
        scorer: what scores the masked copies of RISE and its like: the classifier, or a fast copy.
        judge: what the metrics ask: the classifier, or a fast copy of the same probabilities.
    """

    __test__ = False  # pytest: the name begins with Test, and it is none

    protocol: Protocol
    network: NetworkSettings
    classifier: FrozenClassifier
    pictures: Pictures
    common: Tensor
    mosaics: Mosaics
    scorer: nn.Module
    judge: nn.Module

    @property
    def model(self) -> nn.Module:
        return self.classifier.model

    @property
    def normalization(self) -> Normalization:
        return self.classifier.pixels

    @property
    def device(self) -> torch.device:
        return device_of(self.model)

    @property
    def layer(self) -> nn.Module:
        return self.model.get_submodule(self.network.layer)

    @property
    def stages(self) -> list[nn.Module]:
        """The last layer of each convolutional block."""
        return [self.model.get_submodule(name) for name in self.network.stages]

    def reading(self, fused: bool) -> FrozenClassifier:
        """The classifier with the last two stages as its layers, or with the target layer alone."""
        one = {self.network.layer: self.layer}
        return self.classifier if fused else replace(self.classifier, layers=one)

    def few(self, slow: bool) -> tuple[Tensor, Tensor]:
        """Indices of the images explained twice, and of the mosaics explained."""
        few = self.protocol.few if slow else None
        return self.common[:few], torch.arange(len(self.mosaics.images))[:few]


def assembled(
    protocol: Protocol,
    network: NetworkSettings,
    model: nn.Module,
    normalization: Normalization,
    pictures: Pictures,
    common: Tensor,
    mosaics: Mosaics | None = None,
) -> Testbed:
    """A testbed in which the classifier itself is scorer and judge; no mosaics unless given."""
    classifier = FrozenClassifier.of(model, network.two_layers, normalization)
    if mosaics is None:
        nothing = torch.zeros(0, dtype=torch.long)
        mosaics = Mosaics(pictures.images[:0], nothing, nothing)
    return Testbed(protocol, network, classifier, pictures, common, mosaics, model, model)


def prepare(
    protocol: Protocol,
    network: str,
    out: Path,
    data: Path | None = None,
    names: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    seeded: bool = False,
) -> Testbed:
    """Load the classifier and the images, predict, and draw the common subset and the mosaics."""
    if protocol.images == "drawn":
        normalization, sure = NORMALIZATION, 0.3  # two shapes share the probability
        model = shapes_classifier(out / "classifier.safetensors", protocol.seed).to(device)
        drawn = draw_images(min(limit or protocol.count, protocol.count), protocol.seed + 10_000)
        images, classes, regions = drawn.images, drawn.classes[:, 0], drawn.regions[:, 0]
        p = confidence(model, images.to(device), classes).cpu()
        pictures = Pictures(images, [CLASSES[c] for c in classes], classes, p, regions)
    else:
        if data is None:
            raise ValueError(
                f"the protocol {protocol.name!r} needs --data, a folder of photographs"
            )
        model, normalization = load_network(network, seeded)
        images, titles = load_photos(data, normalization, names, limit, side_of(network))
        parts = [predict(model.to(device), part.to(device)) for part in images.split(32)]
        p, classes = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        pictures, sure = Pictures(images, titles, classes, p), 0.5
    generator = torch.Generator().manual_seed(protocol.seed)
    common = torch.randperm(len(pictures.images), generator=generator)[: protocol.common]
    mosaics = _mosaics(protocol, images[p > sure], classes[p > sure])
    settings = protocol.networks[network]
    return assembled(protocol, settings, model, normalization, pictures, common, mosaics)


def _mosaics(protocol: Protocol, images: Tensor, classes: Tensor) -> Mosaics | None:
    """Mosaics of images that the classifier is sure of."""
    if protocol.mosaics < 1 or len(classes.unique()) < 4:
        print("no mosaics: they take images of four classes that the classifier is sure of")
        return None
    tiles, members, cells = draw_mosaics(images, classes, protocol.mosaics, protocol.seed)
    return Mosaics(tiles, classes[members.gather(1, cells[:, None])[:, 0]], cells)


def blank(network: str, device: str = "cpu", images: int = 16) -> Testbed:
    """A testbed of so many noise images, and of a network of any protocol with seeded weights, to
    time methods on."""
    protocols = [load_protocol(path.stem) for path in FOLDER.glob("*.yaml")]
    protocol = next((p for p in protocols if network in p.networks), None)
    if protocol is None:
        names = sorted(name for p in protocols for name in p.networks)
        raise ValueError(f"no protocol has a network {network!r}; there are {names}")
    drawn = protocol.images == "drawn"
    made = (small_network().eval(), NORMALIZATION) if drawn else load_network(network, seeded=True)
    (model, normalization), side = made, SIZE if drawn else 224
    generator = torch.Generator().manual_seed(0)
    pixels = normalization.normalize(torch.rand(images, 3, side, side, generator=generator))
    classes = torch.zeros(images, dtype=torch.long)
    pictures = Pictures(pixels, [""] * images, classes, torch.ones(images))
    settings, model = protocol.networks[network], model.to(device)
    return assembled(protocol, settings, model, normalization, pictures, classes[:0])
