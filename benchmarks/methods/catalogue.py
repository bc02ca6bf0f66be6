"""Every method of the comparison, in the order of the tables."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import pytorch_grad_cam as library
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST, FinerWeightedTarget
from torch import Tensor, nn

from learnable_cam_plugin import AttentionMechanism, LearnableCAM

from ..testbed import Testbed
from .fastshap import FastSHAPRecipe
from .floor import Draw, Floor, centred_gaussian, random_grid
from .full_grad import FullGrad
from .learned import Learned, with_attention
from .opti_cam import OptiCAM
from .recipro_cam import ReciproCAM
from .registry import Method, register_method
from .rise import RISE
from .sidu import SIDU
from .sise import SISE, above_otsu, positive
from .tame import tame_start

Build = Callable[[Testbed, AttentionMechanism | None], Any]
Settings = Callable[[Testbed], dict[str, Any]]


class FinerTarget:
    """FinerCAM's default comparison for a given class, from the same pass: its three most similar
    scores. (The library compares only when it chooses the class itself.)"""

    def __init__(self, category: int) -> None:
        self.category = category

    def __call__(self, output: Tensor) -> Tensor:
        nearest = (output.detach() - output.detach()[self.category]).abs().argsort()
        others = [int(c) for c in nearest if int(c) != self.category][:3]
        return FinerWeightedTarget(self.category, others, 1.0)(output)


def _add(name: str, group: str, reference: str, build: Build, **more: Any) -> None:
    register_method(Method(name, group, reference, build, **more))


def _library(name: str, group: str, reference: str, of: str, **more: Any) -> None:
    """A class of pytorch-grad-cam, at the target layer."""
    _add(
        name, group, reference, lambda bed, _: getattr(library, of)(bed.model, [bed.layer]), **more
    )


def _masking(
    name: str, reference: str, note: str, peer: Callable[..., Any], settings: Settings
) -> None:
    """A peer of this package that scores masked copies."""

    def build(bed: Testbed, _attention: AttentionMechanism | None) -> Any:
        options = {"normalization": bed.normalization, "scorer": bed.scorer, "progress": False}
        return peer(bed.model, **options, **settings(bed))

    _add(name, "perturbation", reference, build, slow=True, note=note)


def _learned(name: str, reference: str, note: str, how: Learned) -> None:
    _add(name, "learned", reference, with_attention, learned=how, note=note)


def _floor(name: str, reference: str, draw: Draw) -> None:
    _add(name, "floor", reference, lambda bed, _: Floor(bed.model, draw, bed.protocol.seed))


def _score_cam(bed: Testbed, _attention: AttentionMechanism | None) -> Any:
    # Its hooks must sit on the network that scores the masks.
    cam = library.ScoreCAM(bed.scorer, [bed.scorer.get_submodule(bed.network.layer)])
    cam.batch_size = 32
    return cam


@lru_cache(maxsize=4)
def _without_training(model: nn.Module) -> LearnableCAM:
    """Built once a classifier, as it is used: the first call finds its layers and head."""
    return LearnableCAM(model)


LCAM = "Gkartzonika et al., ECCV Workshops 2022"
PAPER = (
    "the paper's loss and random start; Adam instead of its SGD, fewer epochs, and the "
    "regularisers on each image's own map"
)
BLACK = "masks to black, as average drop does"
ONE_COUNTED = f"{BLACK}; its passes differ from image to image: one was counted"
SAME_MAP = "on a head of pooling and one linear layer, classic CAM clipped at 0"
DEFAULT = (
    "the trainer's default recipe: every-threshold, a mechanism shared by all classes, at the ends "
    "of the last two stages"
)
for _seed, _name, _note in (
    (0, "LearnableCAM", DEFAULT),
    (1, "LearnableCAM (seed 1)", "the same, trained a second time"),
    (2, "LearnableCAM (seed 2)", "the same, trained a third time"),
):
    _learned(_name, "this package", _note, Learned("every-threshold", "head", True, _seed))
_add(
    "LearnableCAM (no training)",
    "learned",
    "this package",
    lambda bed, _: _without_training(bed.model),
    note="the attention of the package, trained beside EfficientNet-Lite0 among others",
)
_learned("L-CAM-Img", LCAM, PAPER, Learned("l-cam-img", "random"))
_learned("L-CAM-Fm", LCAM, PAPER, Learned("l-cam-fm", "random"))
_learned(
    "TAME",
    "Ntrougkas et al., ISM 2022",
    "its mechanism at the last two stages, with the loss of L-CAM-Img",
    Learned("l-cam-img", tame_start, fused=True),
)
_learned(
    "FastSHAP",
    "Jethani et al., ICLR 2022",
    "its objective, for the predicted class, with 8 sets of 49 super-pixels (not 196) an image and "
    "step; the classifier itself says what a set is worth, not a surrogate trained on masked "
    "images; the explainer is a small head on the last two stages, not a network of its own",
    Learned(FastSHAPRecipe(), "random", fused=True),
)
_add(
    "classic CAM",
    "gradient-free",
    "Zhou et al., CVPR 2016",
    lambda bed, _: LearnableCAM(bed.model, [bed.layer], attention="head"),
)
_library("Grad-CAM", "gradient", "Selvaraju et al., ICCV 2017", "GradCAM", note=SAME_MAP)
_library("Grad-CAM++", "gradient", "Chattopadhyay et al., WACV 2018", "GradCAMPlusPlus")
_library("HiResCAM", "gradient", "Draelos and Carin, 2020", "HiResCAM", note=SAME_MAP)
_library("XGrad-CAM", "gradient", "Fu et al., BMVC 2020", "XGradCAM", note=SAME_MAP)
_library("LayerCAM", "gradient", "Jiang et al., TIP 2021", "LayerCAM")
_library("Eigen-CAM", "gradient-free", "Muhammad and Yeasin, 2020", "EigenCAM")
_library(
    "Ablation-CAM",
    "perturbation",
    "Desai and Ramaswamy, WACV 2020",
    "AblationCAM",
    slow=True,
    note="a pass for each channel, of which the target layer itself is not computed",
)
_add(
    "Score-CAM",
    "perturbation",
    "Wang et al., CVPR Workshops 2020",
    _score_cam,
    slow=True,
    note="the library masks the normalised image, to its mean, not to black",
)
_add(
    "Recipro-CAM",
    "perturbation",
    "Byun and Lee, 2022, arXiv 2209.14074",
    lambda bed, _: ReciproCAM(bed.model, [bed.layer]),
    note="its second pass is of what follows the target layer, on a batch of all places",
)
_add(
    "FullGrad",
    "gradient",
    "Srinivas and Fleuret, NeurIPS 2019",
    lambda bed, _: FullGrad(bed.model, []),
    note="the library's, but that channels are added up before they are resized, not after",
)
_library("FinerCAM", "gradient", "Zhang et al., CVPR 2025", "FinerCAM", target=FinerTarget)
_add(
    "RefineCAM",
    "gradient",
    "arXiv 2605.14641",
    lambda bed, _: library.RefineCAM(bed.model, bed.stages[-3:]),
    note="Grad-CAM++ at the last three blocks",
)
_library(
    "ShapleyCAM",
    "gradient",
    "Cai, 2025, arXiv 2501.06261",
    "ShapleyCAM",
    note="with the paper's ReST target",
    # A plain score's Hessian is empty where the head is linear in the feature maps.
    target=ClassifierOutputReST,
)
_add(
    "Opti-CAM",
    "gradient",
    "Zhang et al., CVIU 2024, arXiv 2301.07002",
    lambda bed, _: OptiCAM(bed.model, [bed.layer], normalization=bed.normalization, progress=False),
    slow=True,
    note=f"the weights of the channels optimised for each image, 100 steps; {BLACK}",
)
_masking(
    "RISE",
    "Petsiuk et al., BMVC 2018",
    BLACK,
    RISE,
    lambda bed: {"masks": bed.network.rise_masks, "seed": bed.protocol.seed},
)
_masking(
    "SIDU",
    "Muddamsetty et al., Pattern Recognition 2022",
    f"explains the prediction as a whole, not one class; {BLACK}",
    SIDU,
    lambda bed: {"target_layers": [bed.layer]},
)
for _name, _reference, _select in (
    ("SISE", "Sattarzadeh et al., AAAI 2021", positive),
    ("Ada-SISE", "Sudhakar et al., ICASSP 2021", above_otsu),
):
    _masking(
        _name,
        _reference,
        ONE_COUNTED,
        partial(SISE, select=_select),
        lambda bed: {"target_layers": bed.stages},
    )
_floor("random map", "a 7x7 grid of uniform noise", random_grid)
_floor("centred Gaussian", "its spread a quarter of the image", centred_gaussian)
