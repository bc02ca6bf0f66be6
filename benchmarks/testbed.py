"""What the methods are compared on: the classifier, the images, the classes, the mosaics."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from learnable_cam_plugin import ConditionedAttention, Normalization, checkpoint
from learnable_cam_plugin.comparison import predict
from learnable_cam_plugin.features import forward_with_features, layer_names
from learnable_cam_plugin.mechanism import AttentionMechanism
from learnable_cam_plugin.metrics import mosaics
from learnable_cam_plugin.photos import PhotoFolder, efficientnet_lite0
from learnable_cam_plugin.shapes import CLASSES, NORMALIZATION, SIZE, draw_images, small_network
from learnable_cam_plugin.shapes import train_classifier as train_on_shapes

from .protocol import FOLDER as PROTOCOLS
from .protocol import NetworkSettings, Protocol, load_protocol

IMAGENET = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@dataclass
class Workbench:
    """Everything that a method or a metric is handed.

    Attributes:
        protocol, network: what was asked for.
        model: the classifier, in eval mode.
        normalization: of its images.
        images: (N, C, H, W), normalised.
        titles: of the images.
        classes: (N,), the classes explained: predicted ones, or those drawn.
        confidence: (N,), their probabilities.
        regions: (N, H, W) bool, where the class is, if known.
        common: (n,) indices of the images on which every method is scored.
        mosaics, mosaic_classes, cells: (M, C, H, W), (M,), (M,): see `metrics.mosaics`.
        attentions: name -> trained attention.
        scorer: what scores the masked copies of RISE and its like: the classifier, or a fast copy.
        judge: what the metrics ask: the classifier, or a fast copy of the same probabilities.
    """

    protocol: Protocol
    network: NetworkSettings
    model: nn.Module
    normalization: Normalization
    images: Tensor
    titles: list[str]
    classes: Tensor
    confidence: Tensor
    regions: Tensor | None
    common: Tensor
    mosaics: Tensor
    mosaic_classes: Tensor
    cells: Tensor
    scorer: nn.Module
    judge: nn.Module
    attentions: dict[str, AttentionMechanism] = field(default_factory=dict)

    @property
    def layer(self) -> nn.Module:
        """The target layer."""
        return self.model.get_submodule(self.network.layer)

    @property
    def stages(self) -> list[nn.Module]:
        """The last layer of each convolutional block."""
        return [self.model.get_submodule(name) for name in self.network.stages]

    def few(self, slow: bool) -> tuple[Tensor, Tensor]:
        """Indices of the images explained twice, and of the mosaics explained."""
        few = self.protocol.few
        if slow:
            return self.common[:few], torch.arange(min(few, len(self.mosaics)))
        return self.common, torch.arange(len(self.mosaics))


def load_network(name: str, seeded: bool = False) -> tuple[nn.Module, Normalization]:
    """A classifier by name, in eval mode, and its normalisation.

    Args:
        name: "efficientnet-lite0", or a network of torchvision.
        seeded: random weights instead of trained ones, to try a protocol without a download.
    """
    if name == "efficientnet-lite0":
        return efficientnet_lite0()
    torch.manual_seed(0)
    return models.get_model(name, weights=None if seeded else "IMAGENET1K_V1").eval(), IMAGENET


def load_photos(
    folder: Path, normalization: Normalization, names: Path | None, limit: int | None
) -> tuple[Tensor, list[str]]:
    """The photographs (N, 3, 224, 224) of a folder at any depth, and their titles.

    Args:
        folder: an ImageFolder layout or a flat one.
        normalization: of the classifier.
        names: a text file whose lines start with the file names wanted, or their paths relative
            to the folder (what follows a blank is ignored); all unless given.
        limit: that many, evenly spread over the folder.

    Raises:
        FileNotFoundError: no folder, no photograph, or names that are not in it.
        ValueError: a name that several files have.
    """
    photos = PhotoFolder(folder, normalization)
    if names is not None:
        wanted = [line.split()[0] for line in names.read_text().splitlines() if line.strip()]
        found: dict[str, list[Path]] = {}
        for path in photos.files:
            for key in {path.name, path.relative_to(folder).as_posix()}:
                found.setdefault(key, []).append(path)
        several = [name for name in wanted if len(found.get(name, [])) > 1]
        if several:
            raise ValueError(
                f"{names} names {several[0]}, and {folder} has {len(found[several[0]])} of that "
                "name: list paths relative to the folder"
            )
        missing = [name for name in wanted if name not in found]
        if missing or not wanted:
            raise FileNotFoundError(
                f"{len(missing)} of the {len(wanted)} images of {names} are not under {folder}, "
                f"for example {missing[:3]}"
            )
        photos.files = [found[name][0] for name in wanted]
    if limit and limit < len(photos):
        photos.files = [photos.files[i * len(photos) // limit] for i in range(limit)]
    titles = [f"{path.parent.name}/{path.stem}" for path in photos.files]
    return torch.stack([photos[i] for i in range(len(photos))]), titles


def shapes_classifier(path: Path, seed: int) -> nn.Module:
    """A small classifier of drawn shapes, trained once and kept at `path`."""
    torch.manual_seed(seed)
    model = small_network()
    if path.exists():
        model.load_state_dict(checkpoint.load(path)[0])
    else:
        print("training a small classifier of drawn shapes")
        train_on_shapes(model, draw_images(2000, seed), 24, seed)
        checkpoint.save(path, model.state_dict(), {"classifier": "drawn shapes", "seed": seed})
    return model.eval()


def prepare(
    protocol: Protocol,
    network: str,
    out: Path,
    data: Path | None = None,
    names: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    seeded: bool = False,
) -> Workbench:
    """Load the classifier and the images, predict, and draw the common subset and the mosaics."""
    regions = None
    if protocol.images == "drawn":
        model = shapes_classifier(out / "classifier.safetensors", protocol.seed).to(device)
        normalization = NORMALIZATION
        drawn = draw_images(min(limit or protocol.count, protocol.count), protocol.seed + 10_000)
        images, classes, regions = drawn.images, drawn.classes[:, 0], drawn.regions[:, 0]
        titles = [CLASSES[c] for c in classes]
        with torch.no_grad():
            confidence = model(images.to(device)).softmax(1).cpu()
        confidence = confidence.gather(1, classes[:, None])[:, 0]
        shown = confidence > 0.3  # two shapes share the probability
    else:
        if data is None:
            raise ValueError(
                f"the protocol {protocol.name!r} needs --data, a folder of photographs"
            )
        model, normalization = load_network(network, seeded)
        model = model.to(device)
        images, titles = load_photos(data, normalization, names, limit)
        parts = [predict(model, part.to(device)) for part in images.split(32)]
        confidence, classes = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        shown = confidence > 0.5
    generator = torch.Generator().manual_seed(protocol.seed)
    common = torch.randperm(len(images), generator=generator)[: protocol.common]
    if protocol.mosaics < 1 or len(classes[shown].unique()) < 4:
        print("no mosaics: they take images of four classes that the classifier is sure of")
        tiles, tile_classes, cells = images[:0], classes[:0], classes[:0]
    else:
        tiles, members, cells = mosaics(
            images[shown], classes[shown], protocol.mosaics, protocol.seed
        )
        tile_classes = classes[shown][members.gather(1, cells[:, None])[:, 0]]
    return Workbench(
        protocol,
        protocol.networks[network],
        model,
        normalization,
        images,
        titles,
        classes,
        confidence,
        regions,
        common,
        tiles,
        tile_classes,
        cells,
        scorer=model,
        judge=model,
    )


def blank(network: str, device: str = "cpu", images: int = 16) -> Workbench:
    """A workbench of noise images, seeded weights and an untrained attention, to time methods on.

    Args:
        network: of any protocol, by name.
        device: where the classifier is.
        images: how many.
    """
    protocols = [load_protocol(path.stem) for path in PROTOCOLS.glob("*.yaml")]
    protocol = next((p for p in protocols if network in p.networks), None)
    if protocol is None:
        names = sorted(name for p in protocols for name in p.networks)
        raise ValueError(f"no protocol has a network {network!r}; there are {names}")
    drawn = protocol.images == "drawn"
    side = SIZE if drawn else 224
    model, normalization = (
        (small_network().eval(), NORMALIZATION) if drawn else load_network(network, seeded=True)
    )
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(images, 3, side, side, generator=generator)
    nothing = torch.zeros(0, dtype=torch.long)
    bench = Workbench(
        protocol,
        protocol.networks[network],
        model.to(device),
        normalization,
        normalization.normalize(pixels),
        [""] * images,
        torch.zeros(images, dtype=torch.long),
        torch.ones(images),
        None,
        nothing,
        pixels[:0],
        nothing,
        nothing,
        scorer=model,
        judge=model,
    )
    layers = layer_names(model, bench.network.two_layers)
    with torch.no_grad():
        scores, maps = forward_with_features(model, layers, bench.images[:1].to(device))
    channels = {name: features.shape[1] for name, features in maps.items()}
    attention = ConditionedAttention(channels, scores.shape[1]).to(device).eval()
    # any head: a calibrated one of VGG-16 would cost a backward pass a class
    attention.read_head(torch.rand_like(attention.vectors), None)
    bench.attentions = {"LearnableCAM": attention}
    return bench
