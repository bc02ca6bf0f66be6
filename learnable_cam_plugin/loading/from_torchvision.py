"""Classifiers of torchvision."""

from torchvision import models

from ..masking import Normalization
from .libraries import downloading, unknown
from .loaded import LoadedClassifier
from .weights import RANDOM, Weights, built


def load(name: str, weights: Weights | None, num_classes: int | None) -> LoadedClassifier:
    """A classifier of `torchvision.models`; normalisation, side and names are those of its newest
    weights (`DEFAULT`)."""
    known, source = models.list_models(module=models), f"torchvision:{name}"
    if name not in known:
        raise unknown("torchvision has no classifier", name, known)
    record = models.get_model_weights(name).DEFAULT
    preprocessing = record.transforms()
    if weights is None:
        with downloading(source):
            record.get_state_dict(progress=False, check_hash=True)
        model = models.get_model(name, weights=record).eval()
    else:
        options = {} if num_classes is None else {"num_classes": num_classes}
        model = built(lambda: models.get_model(name, weights=None, **options), weights)
    names = None if weights == RANDOM or num_classes is not None else record.meta["categories"]
    return LoadedClassifier(
        model,
        Normalization(preprocessing.mean, preprocessing.std),
        preprocessing.crop_size[0],
        names and tuple(names),
        source,
    )
