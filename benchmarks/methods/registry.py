"""A method of the comparison as one entry, and the registry of them."""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from learnable_cam_plugin import AttentionMechanism

from ..testbed import Testbed
from .learned import Learned

Explain = Callable[[Tensor, Tensor], Tensor]  # images (N, C, H, W), classes (N,) -> (N, H, W)


@dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes:
        name: as shown.
        group: "learned", "gradient", "gradient-free", "perturbation" or "floor".
        reference: the paper.
        build: makes the object, which is called as any pytorch-grad-cam class, from the testbed
            and the trained attention (None unless the method is learned).
        slow: over 1,000 passes, or over half a second on two cores, an image: scored on the common
            images only.
        note: what a reader must know.
        target: what the method differentiates or scores, for a class.
        learned: how its attention is trained; None for a method that learns nothing.
    """

    name: str
    group: str
    reference: str
    build: Callable[[Testbed, AttentionMechanism | None], Any]
    slow: bool = False
    note: str = ""
    target: Callable[[int], Any] = ClassifierOutputTarget
    learned: Learned | None = None

    @property
    def slug(self) -> str:
        """The name as a file name.

        >>> Method("Grad-CAM++", "gradient", "", lambda bed, attention: None).slug
        'grad-campp'
        """
        return self.name.lower().replace("+", "p").replace(" ", "-").replace("/", "-")


METHODS: dict[str, Method] = {}


def register_method(method: Method) -> Method:
    """Add a method to the comparison; ValueError if there is one of that name, or file name."""
    taken = {known.slug: known.name for known in METHODS.values()}
    if method.slug in taken:
        raise ValueError(
            f"there is a method {taken[method.slug]!r} already: give {method.name!r} another name"
        )
    METHODS[method.name] = method
    return method


def find_methods(names: str | None) -> list[Method]:
    """Methods by comma-separated names, all unless given.

    >>> [method.name for method in find_methods("rise, Grad-CAM")]
    ['RISE', 'Grad-CAM']
    """
    if not names:
        return list(METHODS.values())
    known = {name.lower(): method for name, method in METHODS.items()}
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"there is no method {unknown}; there are {list(METHODS)}")
    return [known[name] for name in wanted]


@contextlib.contextmanager
def opened(
    method: Method, bed: Testbed, attention: AttentionMechanism | None = None
) -> Iterator[Explain]:
    """The method as a function of images and classes; its hooks go with the block."""
    cam = method.build(bed, attention)
    try:
        yield functools.partial(_call, cam, method.target)
    finally:
        for one in getattr(cam, "base_cam_per_layer", [getattr(cam, "base_cam", cam)]):
            one.activations_and_grads.release()


def _call(cam: Any, target: Callable[[int], Any], images: Tensor, classes: Tensor) -> Tensor:
    # Score-CAM and Ablation-CAM draw a bar for each image.
    with contextlib.redirect_stderr(io.StringIO()):
        return torch.as_tensor(cam(images, [target(int(c)) for c in classes]))
