"""Classifiers of timm."""

from typing import Any

from ..masking import Normalization
from .libraries import downloading, hub_file, library, unknown
from .loaded import LoadedClassifier
from .weights import RANDOM, Weights, built


def load(name: str, weights: Weights | None, num_classes: int | None) -> LoadedClassifier:
    """A classifier of timm, with or without the tag of its weights ("convnext_tiny.fb_in1k");
    normalisation, side and names are those of its `pretrained_cfg`."""
    timm, source = library("timm"), f"timm:{name}"
    tags = timm.list_pretrained()
    if name not in tags and not timm.is_model(name):
        raise unknown("timm has no model", name, {*timm.list_models(), *tags})
    if weights is None:
        record = timm.get_pretrained_cfg(name)
        if record is None or not record.has_weights:
            raise unknown("timm has no pretrained weights of", name, tags)
        where = {}
        if record.hf_hub_id:
            file = record.hf_hub_filename or "model.safetensors"
            where["file"] = hub_file(source, record.hf_hub_id, file)
        with downloading(source):
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=where).eval()
    else:
        options = {} if num_classes is None else {"num_classes": num_classes}
        model = built(lambda: timm.create_model(name, **options), weights)
    data = timm.data.resolve_model_data_config(model)
    named = weights != RANDOM and num_classes is None
    return LoadedClassifier(
        model,
        Normalization(data["mean"], data["std"]),
        data["input_size"][-1],
        _class_names(timm, model) if named else None,
        source,
    )


def _class_names(timm: Any, model: Any) -> tuple[str, ...] | None:
    own = model.pretrained_cfg.get("label_names")
    if own:
        return tuple(own)
    subset = timm.data.infer_imagenet_subset(model.pretrained_cfg)
    return tuple(timm.data.ImageNetInfo(subset).label_descriptions()) if subset else None
