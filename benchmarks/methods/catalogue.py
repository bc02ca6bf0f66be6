"""Every method of the comparison, behind one callable: cam(images, targets) -> maps (N, H, W)."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_grad_cam as library
import torch
from pytorch_grad_cam.utils.model_targets import (
    ClassifierOutputReST,
    ClassifierOutputTarget,
    FinerWeightedTarget,
)
from torch import Tensor

from learnable_cam_plugin import LearnableCAM

from .peers import RISE, SIDU, SISE, Floor, above_otsu, centred_gaussian, positive, random_grid
from .workbench import Workbench


@dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes:
        name: as shown.
        group: "learned", "gradient", "gradient-free", "perturbation" or "floor".
        reference: the paper.
        build: makes the object, which is called as any pytorch-grad-cam class.
        slow: over 1,000 passes, or over half a second on two cores, an image: scored on the common
            images only.
        note: what a reader must know.
        target: what the method differentiates or scores, for a class.
    """

    name: str
    group: str
    reference: str
    build: Callable[[Workbench], Any]
    slow: bool = False
    note: str = ""
    target: Callable[[int], Any] = ClassifierOutputTarget


class FinerTarget:
    """FinerCAM's default comparison for a given class, from the same pass: its three most similar
    scores. (The library compares only when it chooses the class itself.)"""

    def __init__(self, category: int) -> None:
        self.category = category

    def __call__(self, output: Tensor) -> Tensor:
        nearest = (output.detach() - output.detach()[self.category]).abs().argsort()
        others = [int(c) for c in nearest if int(c) != self.category][:3]
        return FinerWeightedTarget(self.category, others, 1.0)(output)


def _library(name: str) -> Callable[[Workbench], Any]:
    return lambda bench: getattr(library, name)(bench.model, [bench.layer])


def _score_cam(bench: Workbench) -> Any:
    # Its hooks must sit on the network that scores the masks.
    cam = library.ScoreCAM(bench.scorer, [bench.scorer.get_submodule(bench.network.layer)])
    cam.batch_size = 32
    return cam


def _peer(peer: Callable[..., Any], layers: str, **settings: Any) -> Callable[[Workbench], Any]:
    def build(bench: Workbench) -> Any:
        chosen = {"none": [], "layer": [bench.layer], "stages": bench.stages}[layers]
        return peer(
            bench.model,
            chosen,
            normalization=bench.normalization,
            scorer=bench.scorer,
            progress=False,
            **settings,
        )

    return build


def _rise(bench: Workbench) -> Any:
    return _peer(RISE, "none", masks=bench.network.rise_masks, seed=bench.protocol.seed)(bench)


def _refine(bench: Workbench) -> Any:
    return library.RefineCAM(bench.model, bench.stages[-3:])


def _floor(draw: Callable[..., Tensor]) -> Callable[[Workbench], Any]:
    return lambda bench: Floor(bench.model, draw=draw, seed=bench.protocol.seed)


def _learned(name: str) -> Callable[[Workbench], Any]:
    def build(bench: Workbench) -> Any:
        if name not in bench.attentions:
            raise ValueError("there is nothing to train it on: pass --train, a folder of images")
        return LearnableCAM(bench.model, [bench.layer], attention=bench.attentions[name])

    return build


@dataclass(frozen=True)
class Learned:
    """How a learned method is trained.

    Attributes:
        recipe: of the trainer, by name.
        start: "head" or "random", the trainer's; "tame", for TAME's mechanism.
        fused: it reads the last stage but one too, see `NetworkSettings.two_layers`.
        seed: of the training.
    """

    recipe: str
    start: str
    fused: bool = False
    seed: int = 0


LEARNED = {
    "LearnableCAM": Learned("every-threshold", "head", fused=True),
    "LearnableCAM (seed 1)": Learned("every-threshold", "head", fused=True, seed=1),
    "LearnableCAM (seed 2)": Learned("every-threshold", "head", fused=True, seed=2),
    "L-CAM-Img": Learned("l-cam-img", "random"),
    "L-CAM-Fm": Learned("l-cam-fm", "random"),
    "TAME": Learned("l-cam-img", "tame", fused=True),
}
PAPER = (
    "the paper's loss and random start; Adam instead of its SGD, fewer epochs, and the "
    "regularisers on each image's own map"
)
BLACK = "masks to black, as average drop does"
SAME_MAP = "on a head of pooling and one linear layer, classic CAM clipped at 0"
LCAM = "Gkartzonika et al., ECCV Workshops 2022"
METHODS = [
    Method(
        "LearnableCAM",
        "learned",
        "this package",
        _learned("LearnableCAM"),
        note="the trainer's default recipe: every-threshold, a mechanism shared by all classes, at "
        "the ends of the last two stages",
    ),
    Method(
        "LearnableCAM (seed 1)",
        "learned",
        "this package",
        _learned("LearnableCAM (seed 1)"),
        note="the same, trained a second time",
    ),
    Method(
        "LearnableCAM (seed 2)",
        "learned",
        "this package",
        _learned("LearnableCAM (seed 2)"),
        note="the same, trained a third time",
    ),
    Method("L-CAM-Img", "learned", LCAM, _learned("L-CAM-Img"), note=PAPER),
    Method("L-CAM-Fm", "learned", LCAM, _learned("L-CAM-Fm"), note=PAPER),
    Method(
        "TAME",
        "learned",
        "Ntrougkas et al., ISM 2022",
        _learned("TAME"),
        note="its mechanism at the last two stages, with the loss of L-CAM-Img",
    ),
    Method(
        "classic CAM",
        "gradient-free",
        "Zhou et al., CVPR 2016",
        lambda bench: LearnableCAM(bench.model, [bench.layer]),
        note="LearnableCAM before any training",
    ),
    Method(
        "Grad-CAM", "gradient", "Selvaraju et al., ICCV 2017", _library("GradCAM"), note=SAME_MAP
    ),
    Method(
        "Grad-CAM++", "gradient", "Chattopadhyay et al., WACV 2018", _library("GradCAMPlusPlus")
    ),
    Method("HiResCAM", "gradient", "Draelos and Carin, 2020", _library("HiResCAM"), note=SAME_MAP),
    Method("XGrad-CAM", "gradient", "Fu et al., BMVC 2020", _library("XGradCAM"), note=SAME_MAP),
    Method("LayerCAM", "gradient", "Jiang et al., TIP 2021", _library("LayerCAM")),
    Method("Eigen-CAM", "gradient-free", "Muhammad and Yeasin, 2020", _library("EigenCAM")),
    Method(
        "Ablation-CAM",
        "perturbation",
        "Desai and Ramaswamy, WACV 2020",
        _library("AblationCAM"),
        slow=True,
        note="a pass for each channel, of which the target layer itself is not computed",
    ),
    Method(
        "Score-CAM",
        "perturbation",
        "Wang et al., CVPR Workshops 2020",
        _score_cam,
        slow=True,
        note="the library masks the normalised image, to its mean, not to black",
    ),
    Method(
        "FullGrad",
        "gradient",
        "Srinivas and Fleuret, NeurIPS 2019",
        lambda bench: library.FullGrad(bench.model, []),
        slow=True,
        note="slow because it resizes the gradient of every bias's channel on the CPU",
    ),
    Method(
        "FinerCAM", "gradient", "Zhang et al., CVPR 2025", _library("FinerCAM"), target=FinerTarget
    ),
    Method(
        "RefineCAM",
        "gradient",
        "arXiv 2605.14641",
        _refine,
        note="Grad-CAM++ at the last three blocks",
    ),
    Method(
        "ShapleyCAM",
        "gradient",
        "Cai, 2025, arXiv 2501.06261",
        _library("ShapleyCAM"),
        note="with the paper's ReST target",
        # A plain score's Hessian is empty where the head is linear in the feature maps.
        target=ClassifierOutputReST,
    ),
    Method("RISE", "perturbation", "Petsiuk et al., BMVC 2018", _rise, slow=True, note=BLACK),
    Method(
        "SIDU",
        "perturbation",
        "Muddamsetty et al., Pattern Recognition 2022",
        _peer(SIDU, "layer"),
        slow=True,
        note=f"explains the prediction as a whole, not one class; {BLACK}",
    ),
    Method(
        "SISE",
        "perturbation",
        "Sattarzadeh et al., AAAI 2021",
        _peer(SISE, "stages", select=positive),
        slow=True,
        note=f"{BLACK}; its passes differ from image to image: one was counted",
    ),
    Method(
        "Ada-SISE",
        "perturbation",
        "Sudhakar et al., ICASSP 2021",
        _peer(SISE, "stages", select=above_otsu),
        slow=True,
        note=f"{BLACK}; its passes differ from image to image: one was counted",
    ),
    Method("random map", "floor", "a 7x7 grid of uniform noise", _floor(random_grid)),
    Method(
        "centred Gaussian", "floor", "its spread a quarter of the image", _floor(centred_gaussian)
    ),
]
BY_NAME = {method.name: method for method in METHODS}


def find_methods(names: str | None) -> list[Method]:
    """Methods by comma-separated names, all unless given.

    >>> [method.name for method in find_methods("rise, Grad-CAM")]
    ['RISE', 'Grad-CAM']
    """
    if not names:
        return METHODS
    known = {name.lower(): method for name, method in BY_NAME.items()}
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"there is no method {unknown}; there are {list(BY_NAME)}")
    return [known[name] for name in wanted]


@contextlib.contextmanager
def opened(method: Method, bench: Workbench) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    """The method as `explain(images, classes) -> maps (N, H, W)`; its hooks go with the block."""
    cam = method.build(bench)
    try:
        yield functools.partial(_explain, cam, method.target)
    finally:
        for one in getattr(cam, "base_cam_per_layer", [getattr(cam, "base_cam", cam)]):
            one.activations_and_grads.release()


def _explain(cam: Any, target: Callable[[int], Any], images: Tensor, classes: Tensor) -> Tensor:
    # Score-CAM and Ablation-CAM draw a bar for each image.
    with contextlib.redirect_stderr(io.StringIO()):
        return torch.as_tensor(cam(images, [target(int(c)) for c in classes]))
