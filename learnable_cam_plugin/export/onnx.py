"""Prediction and explanation as one ONNX file."""

import json
import logging
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..atomic import atomic_path
from ..attention import AttentionMechanism, source_name
from ..checkpoint import digest
from ..classifier import device_of, floating_weight
from ..masking import Normalization
from ..runtime.record import FORMAT, KEY
from ..wording import needed, plain, warn
from .explained import ExplainedClassifier
from .graph import FromPixels

INPUTS = ("images", "classes")
OUTPUTS = ("logits", "saliency_map")
SCOPES = "pkg.torch.onnx.name_scopes"  # of a node's metadata: the modules that it is of
_LARGEST = 2**31 - 1  # bytes of one protobuf


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    images: Tensor,
    *,
    normalization: Normalization | None = None,
    class_names: Sequence[str] | None = None,
    pixels: bool = False,
    classes: bool = False,
    dynamic_size: bool = False,
    opset: int = 18,
    **settings: Any,
) -> Path:
    """Write a classifier with its explanation to one ONNX file, atomically.

    Its input is "images", of any batch; its outputs are "logits" (N, K) and "saliency_map"
    (N, H, W). onnxruntime and OpenVINO read it; `learnable_cam_plugin.runtime.Explainer` runs it
    without torch. Takes the extra `export`.

    Args:
        model: the classifier, or an `ExplainedClassifier` of it.
        path: of the file.
        images: a few images (N, C, H, W) as the classifier expects them, of the size that the file
            is to take; see `ExplainedClassifier`.
        normalization: that of the images: recorded for whoever prepares them.
        class_names: one a class, recorded.
        pixels: the input is RGB photographs of 8 bits, (N, H, W, 3), of any H and W: resized,
            cropped to the side of `images` and normalised in the graph; see `FromPixels`.
        classes: a second input, "classes" (N, M), says what is explained; the maps are
            (N, M, H, W). Without it, that is the top class, or the `top` ones. With `contrast`
            it is (N, 2), a class and what it is held against, and the maps are (N, H, W).
        dynamic_size: images of any height and width. Convolutional classifiers allow it; one whose
            layers give tokens, or whose head has a size, is refused. Up to 1,024 places of the
            finest layer (512 x 512 pixels of a ResNet) the maps are those of `LearnableCAM`;
            beyond, where that looks at fewer, nearly.
        opset: of ONNX, 18 or what torch converts to.
        settings: of `ExplainedClassifier`, for a model that is none yet: attention, top, ...

    Raises:
        ModuleNotFoundError: the extra is missing.
        TypeError: the class names are no sequence of text.
        ValueError: the model cannot be exported, with the reason; or the arguments do not fit.
        OSError: the file cannot be written; an old one there is as it was.
    """
    needed("export", "onnx", "onnxscript")
    if isinstance(model, ExplainedClassifier):
        if settings:
            raise ValueError(f"{sorted(settings)} were decided when the model was explained")
        explained = model
    else:
        explained = ExplainedClassifier(model, images, **settings)
    images = images.to(device_of(explained))
    if classes and explained.top is not None:
        raise ValueError(f"classes=True takes the place of top, got top={explained.top}")
    if class_names is not None:
        _check_names(class_names, explained.num_classes)
    weight = floating_weight(explained)
    # the tracer mixes the two, and no runtime does
    if not pixels and weight is not None and images.dtype != weight.dtype:
        raise ValueError(
            f"the model's weights are {weight.dtype}, the images {images.dtype}: pass "
            f"images.to({weight.dtype})"
        )
    if normalization is not None:
        _tell_of_other_pixels(normalization, images)
    if pixels and dynamic_size:
        raise ValueError("pixels=True has one size inside: dynamic_size takes images")
    graph: nn.Module = explained
    example = images[:2] if len(images) > 1 else torch.cat([images, images])  # 1 is no dynamic size
    if pixels:
        if normalization is None or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ValueError(
                "pixels=True takes a normalization and square images (N, 3, side, side), got "
                f"normalization={normalization} and images {tuple(images.shape)}"
            )
        graph = FromPixels(explained, normalization, images.shape[2])
        example = torch.zeros(2, 300, 400, 3, dtype=torch.uint8, device=images.device)
    record = _record(explained, images, normalization, class_names, pixels, classes, dynamic_size)
    with atomic_path(path) as temporary:
        axes = _axes(classes, explained.contrast, pixels, dynamic_size)
        pairs = [[0, 1], [1, 0]] if explained.contrast else [[0, 1, 0], [1, 0, 1]]
        given = (example, torch.tensor(pairs, device=example.device))[: len(axes)]
        traced = _traced(graph, given, axes)
        if dynamic_size:
            _check_sizes(explained, traced, given)
        program = _converted(traced, axes, opset)
        program.model.metadata_props[KEY] = json.dumps(record)
        _save(program, temporary)
    return Path(path)


def _check_names(names: Any, count: int) -> None:
    of_text = not isinstance(names, (str, Mapping)) and all(isinstance(n, str) for n in names)
    if not of_text:
        raise TypeError(
            f"class_names must be a sequence of {count} names, one a class in the order of the "
            f"scores, got {reprlib.repr(names)}; of a dict id2label [id2label[i] for i in range(n)]"
        )
    if len(names) != count:
        raise ValueError(f"the model has {count} classes, got {len(names)} names")


def _tell_of_other_pixels(normalization: Normalization, images: Tensor) -> None:
    normalization.denormalize(images[:1])  # of other channels it is refused
    try:
        normalization.check_range(images)  # an example may be noise
    except ValueError as error:  # of images that are noise it does not matter
        warn(
            f"the file will say how its images are normalised, and those given are not so: {error}"
        )


def _axes(
    classes: bool, contrast: bool, pixels: bool, dynamic_size: bool
) -> tuple[dict[int, Any], ...]:
    """Of each input, the axes of any length, with their names in the file."""
    images: dict[int, Any] = {0: "batch"}
    if pixels or dynamic_size:
        height = 1 if pixels else 2
        images |= {height: "height", height + 1: "width"}
    # the batch is named once: torch warns of the second time
    chosen: dict[int, Any] = {0: torch.export.Dim.DYNAMIC} | ({} if contrast else {1: "classes"})
    return (images, chosen) if classes else (images,)


def _traced(graph: nn.Module, given: tuple[Tensor, ...], axes: tuple[dict[int, Any], ...]) -> Any:
    """The graph as torch's ExportedProgram."""
    shapes = tuple(dict.fromkeys(one, torch.export.Dim.DYNAMIC) for one in axes)
    try:
        return torch.export.export(graph, given, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        if axes[0].get(2) == "height":
            raise ValueError(
                f"torch.export cannot trace the model for any height and width: {plain(error)}. "
                "Leave dynamic_size out"
            ) from error
        raise ValueError(
            f"torch.export cannot trace the model for any batch: {plain(error)}. Its forward must "
            "not depend on the values in a tensor, nor on len(images): images.shape[0] serves"
        ) from error


def _check_sizes(explained: ExplainedClassifier, traced: Any, given: tuple[Tensor, ...]) -> None:
    """Refuse a graph that took a decision on the size of the example: an ONNX file would follow it
    in silence at every other size."""
    example, *others = given
    height, width = example.shape[2:]
    # not larger: of more places than it looks at, the mechanism takes fewer, see `export_onnx`
    for size in ((height * 3 // 4, width * 9 // 8), (height * 9 // 8, width * 3 // 4)):
        resized = (F.interpolate(example, size), *others)
        try:
            found, wanted = traced.module()(*resized), explained(*resized)
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
        except Exception as error:
            raise ValueError(
                f"the model takes no images of any height and width, of {height} x {width} only; "
                f"of {size[0]} x {size[1]}: {plain(error)}. Leave dynamic_size out"
            ) from error


def _converted(traced: Any, axes: tuple[dict[int, Any], ...], opset: int) -> Any:
    """torch's ONNXProgram."""
    from onnx_ir.passes.common import DeduplicateInitializersPass

    try:
        with _quiet(logging.getLogger("onnxscript")):
            program: Any = torch.onnx.export(
                traced,
                dynamo=True,
                dynamic_shapes=axes,  # for their names
                input_names=list(INPUTS[: len(traced.example_inputs[0])]),
                output_names=list(OUTPUTS),
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:
        raise ValueError(f"torch.onnx cannot export the model: {plain(error)}") from error
    if (made := program.model.opset_imports.get("")) != opset:
        raise ValueError(f"torch.onnx writes opset {made} where {opset} is asked for: leave it out")
    # the mechanism reads the head's weight, too: once in the file
    DeduplicateInitializersPass(size_limit=_LARGEST)(program.model)
    for node in program.model.graph:  # whose stack traces name this machine's folders
        scopes = node.metadata_props.get(SCOPES, "")
        node.metadata_props.clear()
        node.metadata_props[SCOPES] = scopes
    return program


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Errors only: its warnings are of what it could not simplify."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _record(
    explained: ExplainedClassifier,
    images: Tensor,
    normalization: Normalization | None,
    class_names: Sequence[str] | None,
    pixels: bool,
    classes: bool,
    dynamic_size: bool,
) -> dict[str, Any]:
    """What the file says of itself."""
    norm = normalization and {"mean": list(normalization.mean), "std": list(normalization.std)}
    if explained.contrast:
        pair = ("given class", "another") if classes else ("most probable class", "the second")
        explains = " rather than ".join(pair)  # which the runtime looks for
    else:
        explains = "given classes" if classes else f"top {explained.top or 1}"
    return {
        "format": FORMAT,
        "class_names": None if class_names is None else list(class_names),
        "num_classes": explained.num_classes,
        "layers": list(explained.layers),
        "attention": _of_attention(explained.attention),
        "explains": explains,
        "size": explained.size,
        "input_size": list(images.shape[1:]),
        "dynamic_size": dynamic_size,
        "pixels": pixels,
        "normalization": norm,
        "versions": {name: version(name) for name in ("learnable-cam-plugin", "torch", "onnx")},
    }


def _of_attention(attention: AttentionMechanism) -> dict[str, Any]:
    recipe = attention.origin.recipe if attention.origin else {}
    return {
        "mechanism": type(attention).__name__,
        "sha256": digest(attention.state_dict()),
        "source": source_name(attention.source),
        "recipe": recipe.get("name"),
    }


def _save(program: Any, path: Path) -> None:
    try:
        program.save(path, external_data=False)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the file was not written: {plain(error)} (one ONNX file holds at most {_LARGEST:,} "
            "bytes; of a larger model, export its half precision, ExplainedClassifier(...).half())"
        ) from error
