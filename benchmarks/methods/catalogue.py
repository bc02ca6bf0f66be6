"""Every method of the comparison, in the order of the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_grad_cam as library
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST, FinerWeightedTarget
from torch import Tensor

from learnable_cam_plugin import AttentionMechanism, LearnableCAM

from ..testbed import Testbed
from .floor import Draw, Floor, centred_gaussian, random_grid
from .learned import Learned, with_attention
from .registry import Method, register_method
from .rise import RISE
from .sidu import SIDU
from .sise import SISE, above_otsu, positive
from .tame import tame_start

Build = Callable[[Testbed, AttentionMechanism | None], Any]


class FinerTarget:
    """FinerCAM's default comparison for a given class, from the same pass: its three most similar
    scores. (The library compares only when it chooses the class itself.)"""

    def __init__(self, category: int) -> None:
        self.category = category

    def __call__(self, output: Tensor) -> Tensor:
        nearest = (output.detach() - output.detach()[self.category]).abs().argsort()
        others = [int(c) for c in nearest if int(c) != self.category][:3]
        return FinerWeightedTarget(self.category, others, 1.0)(output)


def _library(name: str) -> Build:
    return lambda bed, _: getattr(library, name)(bed.model, [bed.layer])


def _score_cam(bed: Testbed, _attention: AttentionMechanism | None) -> Any:
    # Its hooks must sit on the network that scores the masks.
    cam = library.ScoreCAM(bed.scorer, [bed.scorer.get_submodule(bed.network.layer)])
    cam.batch_size = 32
    return cam


def _masking(
    peer: Callable[..., Any], settings: Callable[[Testbed], dict[str, Any]] = lambda _: {}
) -> Build:
    """A peer of this package that scores masked copies."""

    def build(bed: Testbed, _attention: AttentionMechanism | None) -> Any:
        return peer(
            bed.model,
            normalization=bed.normalization,
            scorer=bed.scorer,
            progress=False,
            **settings(bed),
        )

    return build


def _sise(select: Callable[[Tensor], Tensor]) -> Build:
    return _masking(SISE, lambda bed: {"target_layers": bed.stages, "select": select})


def _rise(bed: Testbed) -> dict[str, Any]:
    return {"masks": bed.network.rise_masks, "seed": bed.protocol.seed}


def _floor(draw: Draw) -> Build:
    return lambda bed, _: Floor(bed.model, draw=draw, seed=bed.protocol.seed)


PAPER = (
    "the paper's loss and random start; Adam instead of its SGD, fewer epochs, and the "
    "regularisers on each image's own map"
)
BLACK = "masks to black, as average drop does"
SAME_MAP = "on a head of pooling and one linear layer, classic CAM clipped at 0"
_ENTRIES = [
    Method(
        "LearnableCAM",
        "learned",
        "this package",
        with_attention,
        learned=Learned("every-threshold", "head", fused=True),
        note="the trainer's default recipe: every-threshold, a mechanism shared by all classes, at "
        "the ends of the last two stages",
    ),
    Method(
        "LearnableCAM (seed 1)",
        "learned",
        "this package",
        with_attention,
        learned=Learned("every-threshold", "head", fused=True, seed=1),
        note="the same, trained a second time",
    ),
    Method(
        "LearnableCAM (seed 2)",
        "learned",
        "this package",
        with_attention,
        learned=Learned("every-threshold", "head", fused=True, seed=2),
        note="the same, trained a third time",
    ),
    Method(
        "L-CAM-Img",
        "learned",
        "Gkartzonika et al., ECCV Workshops 2022",
        with_attention,
        learned=Learned("l-cam-img", "random"),
        note=PAPER,
    ),
    Method(
        "L-CAM-Fm",
        "learned",
        "Gkartzonika et al., ECCV Workshops 2022",
        with_attention,
        learned=Learned("l-cam-fm", "random"),
        note=PAPER,
    ),
    Method(
        "TAME",
        "learned",
        "Ntrougkas et al., ISM 2022",
        with_attention,
        learned=Learned("l-cam-img", tame_start, fused=True),
        note="its mechanism at the last two stages, with the loss of L-CAM-Img",
    ),
    Method(
        "classic CAM",
        "gradient-free",
        "Zhou et al., CVPR 2016",
        lambda bed, _: LearnableCAM(bed.model, [bed.layer]),
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
        lambda bed, _: library.FullGrad(bed.model, []),
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
        lambda bed, _: library.RefineCAM(bed.model, bed.stages[-3:]),
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
    Method(
        "RISE",
        "perturbation",
        "Petsiuk et al., BMVC 2018",
        _masking(RISE, _rise),
        slow=True,
        note=BLACK,
    ),
    Method(
        "SIDU",
        "perturbation",
        "Muddamsetty et al., Pattern Recognition 2022",
        _masking(SIDU, lambda bed: {"target_layers": [bed.layer]}),
        slow=True,
        note=f"explains the prediction as a whole, not one class; {BLACK}",
    ),
    Method(
        "SISE",
        "perturbation",
        "Sattarzadeh et al., AAAI 2021",
        _sise(positive),
        slow=True,
        note=f"{BLACK}; its passes differ from image to image: one was counted",
    ),
    Method(
        "Ada-SISE",
        "perturbation",
        "Sudhakar et al., ICASSP 2021",
        _sise(above_otsu),
        slow=True,
        note=f"{BLACK}; its passes differ from image to image: one was counted",
    ),
    Method("random map", "floor", "a 7x7 grid of uniform noise", _floor(random_grid)),
    Method(
        "centred Gaussian", "floor", "its spread a quarter of the image", _floor(centred_gaussian)
    ),
]
for _entry in _ENTRIES:
    register_method(_entry)
