"""Networks of the kinds that are deployed, of 10 classes and seeded weights: their files are
compared with them.

    python -m tests.export.networks        # all of them, in a few minutes

Beside each difference stands how far the module itself, in fp32, is from fp64: of some networks
with seeded weights, the features hardly differ from place to place, and rounding shows in the maps.
"""

import copy
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

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
BATCHES = (1, 3, 16)


def deployed(name: str) -> nn.Module:
    return efficientnet_lite0()[0] if name == "efficientnet-lite0" else network(name)


def exported(name: str, folder: Path) -> tuple[Path, ExplainedClassifier]:
    """The file, and what it is of."""
    explained = ExplainedClassifier(deployed(name), pictures(4))
    return export_onnx(explained, folder / f"{name}.onnx", pictures(4)), explained


def run(path: Path, **given: Tensor) -> list[np.ndarray]:
    """The outputs of a file by onnxruntime, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return session.run(None, {name: tensor.numpy() for name, tensor in given.items()})


def differences(path: Path, explained: ExplainedClassifier) -> dict[int, tuple[float, float]]:
    """Batch -> the largest difference of the logits, relative to their largest, and of the maps."""
    found = {}
    for batch in BATCHES:
        images = pictures(batch, seed=batch)
        with torch.no_grad():
            logits, maps = (tensor.numpy() for tensor in explained(images))
        others = run(path, images=images)
        scale = max(1.0, float(np.abs(logits).max()))
        found[batch] = (
            float(np.abs(others[0] - logits).max()) / scale,
            float(np.abs(others[1] - maps).max()),
        )
    return found


def rounding(explained: ExplainedClassifier) -> tuple[float, float]:
    """By how much fp32 differs from fp64 in torch itself: logits and maps, as in `differences`."""
    double, images = copy.deepcopy(explained).double(), pictures(16, seed=16)
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
            of_logits, of_maps = rounding(module)
            print(f"  fp32's own: logits {of_logits:.1e}, maps {of_maps:.1e}", flush=True)
            for size, (of_logits, of_maps) in differences(file, module).items():
                print(f"  batch {size}: logits {of_logits:.1e}, maps {of_maps:.1e}", flush=True)
