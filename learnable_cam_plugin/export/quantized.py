"""Integers of 8 bits in place of floats, in a file of `export_onnx`."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ..atomic import atomic_path
from ..classifier import check_images
from ..wording import needed, plain
from .onnx import SCOPES

# the activations with them: the range before a ReLU6 is several times what is left of it
_KINDS = ("Conv", "Gemm", "MatMul", "Relu", "Clip")


def quantize_onnx(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    batches: Iterable[Tensor],
    mechanism: bool = False,
) -> Path:
    """Quantise the classifier of a file statically (onnxruntime's QDQ, a scale a channel).

    What explains it stays in floats: it is a small part of the cost, and ranks places that differ
    by little.

    Args:
        path: of a file of `export_onnx`.
        out: the file to write, atomically, with the record of the first.
        batches: of some 100 images of the kind that will be classified, as the file takes them:
            they show the range of each activation.
        mechanism: quantises what explains, too.

    Raises:
        ModuleNotFoundError: the extra `export` is missing.
        FileNotFoundError: there is no such file.
        ValueError: there are no images, or such as hold NaN; `out` is `path`; or the file cannot be
            quantised: it is in half precision, quantised already, or none of ONNX.
        TypeError: `batches` are none.
    """
    onnx, quantization = needed("export", "onnx", "onnxruntime.quantization")
    if isinstance(batches, Tensor):
        raise TypeError("batches must be an iterable of batches, got a tensor: pass [images]")
    if Path(path).absolute() == Path(out).absolute():
        raise ValueError(f"{out} is the file in floats itself: give another one to write")
    try:
        model = onnx.load(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # of a kind of its own for each format
        raise ValueError(f"{path} is no ONNX file: {plain(error)}") from error
    kinds = {weight.data_type for weight in model.graph.initializer}
    if onnx.TensorProto.FLOAT16 in kinds or any(
        node.op_type == "QuantizeLinear" for node in model.graph.node
    ):
        raise ValueError(f"{path} is in half precision, or quantised: take the file in floats")
    shapes = {given.name: given.type.tensor_type.shape.dim for given in model.graph.input}
    # as many classes as the file takes: two of a contrast, or any number
    columns = shapes["classes"][1].dim_value or 1 if "classes" in shapes else 0
    explaining = [
        node.name
        for node in model.graph.node
        if any(p.key == SCOPES and "'attention'" in p.value for p in node.metadata_props)
    ]
    with atomic_path(out) as temporary, tempfile.TemporaryDirectory() as folder:
        try:
            quantization.quantize_static(
                os.fspath(path),
                Path(folder) / "quantized.onnx",
                _Reader(columns, batches),
                op_types_to_quantize=list(_KINDS),
                per_channel=True,
                nodes_to_exclude=[] if mechanism else explaining,
            )
        except Exception as error:
            raise ValueError(f"{path} cannot be quantised: {plain(error)}") from error
        found = onnx.load(Path(folder) / "quantized.onnx")
        onnx.helper.set_model_props(found, {p.key: p.value for p in model.metadata_props})
        temporary.write_bytes(found.SerializeToString())
    return Path(out)


class _Reader:
    """What onnxruntime calls a CalibrationDataReader, of batches of images."""

    def __init__(self, columns: int, batches: Iterable[Tensor]) -> None:
        self._given = self._read(columns, batches)

    @staticmethod
    def _read(columns: int, batches: Iterable[Tensor]) -> Iterator[dict[str, np.ndarray]]:
        for images in batches:
            check_images(images)
            given = {"images": images.numpy()}
            if columns:
                given["classes"] = np.tile(np.arange(columns, dtype=np.int64), (len(images), 1))
            yield given

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._given, None)
