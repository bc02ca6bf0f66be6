"""Protocols: what is compared on what, as small YAML files in `benchmarks/protocols`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

FOLDER = Path(__file__).parent / "protocols"
Images = Literal["drawn", "folder"]


@dataclass(frozen=True)
class NetworkSettings:
    """A classifier of a protocol: its target layer, whose feature maps the methods read, and the
    last layer of each convolutional block, first to last, for SISE and the like."""

    layer: str
    stages: tuple[str, ...]
    rise_masks: int

    @property
    def two_layers(self) -> tuple[str, str]:
        """The end of the last stage but one, of a finer grid, and the target layer."""
        return self.stages[-2], self.layer


@dataclass(frozen=True)
class Training:
    """How the learned methods are trained: recipe name -> the settings that differ from its own."""

    epochs: int
    batch_size: int
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """One comparison.

    Attributes:
        images: "drawn", `count` of them, or "folder" for those of --data.
        common: images on which every method, slow ones too, and every metric is scored.
        few: of those, and of the mosaics, explained by slow methods for coherency and the Grid
            Pointing Game.
        mosaics: 2x2 mosaics of the Grid Pointing Game; 0 for none.
        seed: of every random choice.
    """

    name: str
    images: Images
    networks: Mapping[str, NetworkSettings]
    training: Training
    common: int = 60
    few: int = 10
    mosaics: int = 60
    seed: int = 0
    count: int = 0


def load_protocol(name_or_path: str) -> Protocol:
    """A protocol by the name of a file in `benchmarks/protocols`, or by path.

    A FileNotFoundError names those there are; a ValueError is of keys that are missing or unknown.
    """
    given = Path(name_or_path)
    path = given if given.suffix else FOLDER / f"{given}.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"no protocol {name_or_path!r}; there are {sorted(p.stem for p in FOLDER.glob('*'))}, "
            "or pass the path of a YAML file"
        )
    try:
        content: dict[str, Any] = yaml.safe_load(path.read_text())
        networks = {
            name: NetworkSettings(**{**value, "stages": tuple(value["stages"])})
            for name, value in content.pop("networks").items()
        }
        training = Training(**content.pop("training"))
        protocol = Protocol(name=path.stem, networks=networks, training=training, **content)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        known = [field.name for field in dataclasses.fields(Protocol)][1:]
        raise ValueError(f"{path} is no protocol, which has the keys {known}: {error}") from error
    if protocol.images not in get_args(Images) or not networks:
        raise ValueError(
            f"{path}: images must be one of {get_args(Images)} and networks not empty, got "
            f"{protocol.images!r} and {list(networks)}"
        )
    return protocol
