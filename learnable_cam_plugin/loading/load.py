"""The sources of classifiers, and the one function that asks them."""

from collections.abc import Callable

from . import from_function, from_timm, from_torchvision, from_transformers
from .loaded import LoadedClassifier
from .weights import RANDOM, Weights, check_file

Source = Callable[[str, Weights | None, int | None], LoadedClassifier]

SOURCES: dict[str, Source] = {
    "timm": from_timm.load,
    "torchvision": from_torchvision.load,
    "transformers": from_transformers.load,
}


def load_classifier(
    name: str, weights: Weights | None = None, num_classes: int | None = None
) -> LoadedClassifier:
    """A classifier by name, with what its library records of it.

    Args:
        name: "timm:convnext_tiny", "torchvision:resnet50", "transformers:owner/name" (of the
            Hugging Face hub; or a local folder, or a configuration's class, as
            "transformers:SwinConfig"), or "package.module:function", a function that makes the
            model, (the model, its `Normalization`) or a `LoadedClassifier`.
        weights: None for the pretrained ones of the library, which it downloads once; "random" for
            seeded ones, with no download for a name that the library knows by itself; or a local
            file of a state dict, of safetensors or of torch (read with `weights_only`).
        num_classes: of a network with weights "random" or of a file, where the library's default is
            another.

    Returns:
        the model in eval mode, its normalisation, the side of its images, and its class names. The
        image is resized and cropped as `data.photo_transform` does, 224 of 256.

    Raises:
        ValueError: an unknown name, with those that are close; weights of another network.
        ModuleNotFoundError: the library is missing, naming the extra that brings it.
        ConnectionError: the weights are not here, and there is no way to them.
        FileNotFoundError: there is no such file of weights.

    >>> classifier = load_classifier("torchvision:resnet18", weights="random", num_classes=10)
    >>> classifier.side, classifier.layers, classifier.normalization.mean
    (224, ['layer3', 'layer4'], (0.485, 0.456, 0.406))
    >>> load_classifier("torchvision:resnet81")
    Traceback (most recent call last):
        ...
    ValueError: torchvision has no classifier 'resnet81'; did you mean 'resnet18', ...?
    """
    source, _, rest = name.partition(":")
    if not source or not rest:
        raise ValueError(
            f"a classifier is named 'source:name', got '{name}': {', '.join(SOURCES)}, or a module "
            "and a function of it, such as 'torchvision:resnet50' or 'package.module:function'"
        )
    if num_classes is not None and (isinstance(num_classes, bool) or num_classes < 1):
        raise ValueError(f"num_classes must be a whole number above 0, got {num_classes!r}")
    if weights not in (None, RANDOM):
        check_file(weights)
    load = SOURCES.get(source)
    if load is None:
        return from_function.load(name, weights, num_classes)
    if weights is None and num_classes is not None:
        raise ValueError(
            f"the pretrained weights of '{name}' have classes of their own: num_classes goes with "
            "weights='random' or a file"
        )
    return load(rest, weights, num_classes)
