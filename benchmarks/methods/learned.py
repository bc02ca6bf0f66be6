"""Methods that are an attention trained beside the classifier: how each is trained, and built."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from learnable_cam_plugin import AttentionMechanism, FrozenClassifier, LearnableCAM
from learnable_cam_plugin.attention import ConditionedAttention
from learnable_cam_plugin.training import TrainingRecipe, find_recipe

from ..testbed import Testbed

Start = Callable[[FrozenClassifier, Tensor, int], AttentionMechanism]


@dataclass(frozen=True)
class Learned:
    """How a learned method is trained.

    Attributes:
        recipe: of the trainer, by name, or one of your own.
        start: one that the recipe names, as "head" or "random"; or what makes the attention, called
            with the classifier (its layers are those to read), a few images and the seed.
        fused: it reads the last stage but one too, see `NetworkSettings.two_layers`.
        seed: of the training.
    """

    recipe: str | TrainingRecipe
    start: str | Start
    fused: bool = False
    seed: int = 0


def with_attention(bed: Testbed, attention: AttentionMechanism | None) -> LearnableCAM:
    """The `build` of a method that is an attention trained beside the classifier."""
    if attention is None:
        raise ValueError("there is nothing to train it on: pass --train, a folder of images")
    return LearnableCAM(bed.model, [bed.layer], attention=attention)


def untrained(bed: Testbed, how: Learned) -> AttentionMechanism:
    """An attention of the method's kind before any training, to time the method with."""
    classifier, images = bed.reading(how.fused), bed.pictures.images[:1].to(bed.device)
    if callable(how.start):
        return how.start(classifier, images, how.seed)
    if how.recipe != "every-threshold":
        return find_recipe(how.recipe).start(classifier, images, how.start, how.seed, False)
    features, scores = classifier.clean_pass(images)
    channels = {name: maps.shape[1] for name, maps in features.items()}
    attention = ConditionedAttention(channels, scores.shape[1]).to(images.device).eval()
    # any head: a calibrated one of VGG-16 would cost a backward pass a class
    attention.read_head(torch.rand_like(attention.vectors), None)
    return attention
