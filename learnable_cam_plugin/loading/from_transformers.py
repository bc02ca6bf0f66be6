"""Classifiers of Hugging Face's transformers."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..masking import Normalization
from .libraries import from_hub, hub_file, library, unknown
from .loaded import LoadedClassifier
from .weights import RANDOM, Weights, built, check_fit, read_weights


class Logits(nn.Module):
    """Images -> class scores (N, K), of a network that gives them with other things."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).logits


def load(name: str, weights: Weights | None, num_classes: int | None) -> LoadedClassifier:
    """A classifier of transformers: of the hub ("google/vit-base-patch16-224"), of a local folder,
    or of a configuration's class ("SwinConfig", which has no pretrained weights). Normalisation and
    side are those of its image processor, the names those of its configuration."""
    transformers, source = library("transformers"), f"transformers:{name}"
    automatic = transformers.AutoModelForImageClassification
    options = {} if num_classes is None else {"num_labels": num_classes}
    if name.endswith("Config") and "/" not in name:
        config = _configuration(transformers, name)(**options)
        if weights is None:
            raise ValueError(
                f"'{source}' is a kind of network, without pretrained weights: pass "
                "weights='random' or a file, or name a model of the hub, as 'owner/name'"
            )
    else:
        if not Path(name).is_dir():
            hub_file(source, name, "config.json")
        config = _pretrained(source, name, transformers.AutoConfig, **options)
    config.architectures = config.architectures or []  # some kinds have several networks
    if weights is None:
        network = _pretrained(source, name, automatic, config=config)
    else:
        network = built(lambda: automatic.from_config(config), RANDOM)
        network = network if weights == RANDOM else _filled(network, weights)
    processor = _processor(transformers, source, name, config)
    named = weights != RANDOM and num_classes is None
    return LoadedClassifier(
        Logits(network).eval(),
        _normalization(processor),
        _side(processor, config),
        _class_names(config) if named else None,
        source,
    )


def _configuration(transformers: Any, name: str) -> Any:
    mapping = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    known = {config.__name__: config for config in mapping}
    if name not in known:
        raise unknown("transformers has no image classifier of", name, known)
    return known[name]


def _pretrained(source: str, name: str, kind: Any, **options: Any) -> Any:
    """`kind.from_pretrained`, of a local folder or of the hub; no code of anyone's is run."""

    def get(local: bool) -> Any:
        return kind.from_pretrained(
            name, local_files_only=local, trust_remote_code=False, **options
        )

    return get(True) if Path(name).is_dir() else from_hub(source, get)


def _filled(network: Any, path: Weights) -> Any:
    """A network with the weights of a file, whose names transformers may have changed since."""
    found = read_weights(path)
    filled, info = type(network).from_pretrained(
        None,
        config=network.config,
        state_dict=found,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are reported, then
    )
    other = [(name, *shapes) for name, *shapes in info["mismatched_keys"]]
    check_fit(path, network, info["missing_keys"], info["unexpected_keys"], other)
    return filled


def _processor(transformers: Any, source: str, name: str, config: Any) -> Any:
    """The image processor of a model; where a folder has none, one as its kind of network has it,
    None without one."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

    folder = Path(name)
    own = any((folder / f"{file}_config.json").is_file() for file in ("preprocessor", "processor"))
    if own or ("/" in name and not folder.is_dir()):
        return _pretrained(source, name, transformers.AutoImageProcessor)
    kinds = IMAGE_PROCESSOR_MAPPING.get(type(config), None) or ()
    kinds = kinds.values() if isinstance(kinds, dict) else kinds
    return next((kind() for kind in kinds if kind is not None), None)


def _normalization(processor: Any) -> Normalization | None:
    if processor is None:
        return None
    if not getattr(processor, "do_normalize", True):
        return Normalization(0.0, 1.0)
    return Normalization(processor.image_mean, processor.image_std)


def _side(processor: Any, config: Any) -> int:
    """Of the crop, else of what is resized to; of a network of a fixed side, that."""
    sizes = [getattr(config, "image_size", None)]
    if getattr(processor, "do_center_crop", False):
        sizes.append(processor.crop_size)
    sizes.append(getattr(processor, "size", None))
    for size in sizes:
        if isinstance(size, int):
            return size
        if isinstance(size, (list, tuple)) and size:
            return int(size[0])
        for key in ("height", "shortest_edge"):
            if size is not None and (side := dict(size).get(key)):
                return int(side)
    return 224


def _class_names(config: Any) -> tuple[str, ...] | None:
    names = tuple(config.id2label[i] for i in range(config.num_labels))
    return None if names[0] == "LABEL_0" else names
