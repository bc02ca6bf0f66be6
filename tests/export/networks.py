"""Networks of the kinds that are deployed, of 10 classes and seeded weights: their files are
compared with them.

    python -m tests.export.networks                  # all of them, in a few minutes
    python -m tests.export.networks vgg16 vit_b_16   # as large as they are, some minutes each

Beside each difference, which is to be below 1e-4 of onnxruntime and 1e-3 of OpenVINO, stands how
far the module itself, in fp32, is from fp64.
"""

import copy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torchvision import models

from benchmarks.acceleration import openvino_core
from learnable_cam_plugin import ExplainedClassifier, export_onnx
from learnable_cam_plugin.pretrained import efficientnet_lite0

from ..networks import network, pictures

ALL = (
    "resnet18",
    "resnet50",
    "vgg11",
    "mobilenet_v3_small",
    "convnext_tiny",
    "efficientnet-lite0",
    "vit",
    "swin_t",
)
IN_EVERY_RUN = ("resnet18", "mobilenet_v3_small", "vit")
LARGE = ("vgg16", "vit_b_16")  # of half a gigabyte, and of images of 224 pixels
BATCHES = (1, 3, 16)
Run = Callable[[Tensor], list[np.ndarray]]  # images -> logits and maps


def deployed(name: str) -> nn.Module:
    if name == "resnet50":
        return _calm(copy.deepcopy(network(name)))
    if name not in LARGE:
        return efficientnet_lite0()[0] if name == "efficientnet-lite0" else network(name)
    torch.manual_seed(0)
    model = getattr(models, name)(weights=None, num_classes=10).eval()
    if name == "vit_b_16":
        nn.init.normal_(model.heads.head.weight)  # see `vit`
    return model


def _calm(model: nn.Module) -> nn.Module:
    """With the branches of a ResNet's blocks at a fifth of their scale. At all of it, seeded blocks
    amplify rounding by a half each: after 16 of them fp32's features are 1e-4 from fp64's, their
    maps 3e-4, of which the mechanism itself makes 1e-6."""
    for module in model.train().modules():
        if isinstance(module, models.resnet.Bottleneck):
            nn.init.constant_(module.bn3.weight, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    with torch.no_grad():
        model(pictures(8, seed=7))
    return model.eval()


def side(name: str) -> int:
    return 224 if name in LARGE else 64


def exported(name: str, folder: Path) -> tuple[Path, ExplainedClassifier]:
    """The file, and what it is of."""
    images = pictures(4, side(name))
    explained = ExplainedClassifier(deployed(name), images)
    return export_onnx(explained, folder / f"{name}.onnx", images), explained


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def run(path: Path, **given: Tensor) -> list[np.ndarray]:
    """The outputs of a file by onnxruntime, with one thread."""
    return _session(path).run(None, {name: tensor.numpy() for name, tensor in given.items()})


def started(path: Path) -> Run:
    """A file in onnxruntime."""
    session = _session(path)
    return lambda images: session.run(None, {"images": images.numpy()})


def opened(path: Path) -> Run:
    """A file in OpenVINO, computed in fp32."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino_core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)

    def run(images: Tensor) -> list[np.ndarray]:
        found = compiled(images.numpy())
        return [found[name] for name in ("logits", "saliency_map")]

    return run


def differences(
    runs: dict[str, Run], explained: ExplainedClassifier, side: int = 64
) -> dict[tuple[str, int], tuple[float, float]]:
    """Runtime and batch -> the largest difference of the logits, relative to their largest, and of
    the maps."""
    found = {}
    for batch in BATCHES:
        images = pictures(batch, side, seed=batch)
        with torch.no_grad():
            logits, maps = (tensor.numpy() for tensor in explained(images))
        scale = max(1.0, float(np.abs(logits).max()))
        for name, run in runs.items():
            others = run(images)
            found[name, batch] = (
                float(np.abs(others[0] - logits).max()) / scale,
                float(np.abs(others[1] - maps).max()),
            )
    return found


def rounding(explained: ExplainedClassifier, side: int = 64) -> tuple[float, float]:
    """By how much fp32 differs from fp64 in torch itself: logits and maps, as in `differences`."""
    double, images = copy.deepcopy(explained).double(), pictures(3, side, seed=3)
    with torch.no_grad():
        (logits, maps), (wanted, exact) = explained(images), double(images.double())
    scale = max(1.0, float(wanted.abs().max()))
    return float((logits - wanted).abs().max()) / scale, float((maps - exact).abs().max())


def operations(path: Path, kinds: tuple[str, ...]) -> int:
    """How many nodes of these kinds a file has."""
    import onnx

    return sum(node.op_type in kinds for node in onnx.load(path).graph.node)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in sys.argv[1:] or ALL:
        with tempfile.TemporaryDirectory() as where:
            file, module = exported(one, Path(where))
            nodes = operations(file, ("Conv", "MatMul", "Gemm"))
            print(one, f"{file.stat().st_size:,} bytes, {nodes} heavy nodes", flush=True)
            of_logits, of_maps = rounding(module, side(one))
            print(f"  fp32's own: logits {of_logits:.1e}, maps {of_maps:.1e}", flush=True)
            runs = {"onnxruntime": started(file), "OpenVINO": opened(file)}
            for key, (of_logits, of_maps) in differences(runs, module, side(one)).items():
                print(f"  {key[0]}, batch {key[1]}: logits {of_logits:.1e}, maps {of_maps:.1e}")
