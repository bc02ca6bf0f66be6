"""`learnable-cam info`: what an attention or an ONNX file is."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from .classifiers import open_attention


def info(file: str) -> dict[str, Any]:
    """What is in an attention, see `load_attention`, or in a file of the suffix .onnx.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or something else.
        ModuleNotFoundError: of an ONNX file, onnx is not installed.
    """
    return _onnx(Path(file)) if Path(file).suffix == ".onnx" else _attention(file)


def _attention(file: str) -> dict[str, Any]:
    attention = open_attention(file)
    assert attention is not None
    origin = attention.origin
    found: dict[str, Any] = {
        "file": attention.source,
        "mechanism": type(attention).__name__,
        "layers": dict(attention.channels),
        "classes": attention.num_classes,
        "numbers": sum(p.numel() for p in attention.parameters()),
        "settings": attention.settings(),
    }
    if origin is None:
        return {**found, "made for": "not recorded: it goes with any classifier that fits"}
    recipe = {k: v for k, v in origin.recipe.items() if k != "classifier"}
    return found | {
        "made for": origin.architecture,
        "images": origin.input_size,
        "normalization": origin.normalization,
        "recipe": recipe,
        "versions": dict(origin.versions),
    }


def _onnx(path: Path) -> dict[str, Any]:
    onnx: Any = import_module("onnx")
    if not path.is_file():
        raise FileNotFoundError(f"there is no ONNX file at {path}")
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, and the checker's own, by version
        raise ValueError(f"{path} is no whole ONNX file: {error}") from error
    graph = model.graph

    def shapes(values: Any) -> dict[str, str]:
        found = {}
        for value in values:
            kind = value.type.tensor_type
            sizes = [d.dim_param or str(d.dim_value) for d in kind.shape.dim]
            name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
            found[value.name] = f"{name} ({', '.join(sizes)})"
        return found

    weights = {tensor.name for tensor in graph.initializer}
    return {
        "file": str(path.resolve()),
        "made by": f"{model.producer_name} {model.producer_version}".strip(),
        "operators": {one.domain or "ai.onnx": one.version for one in model.opset_import},
        "inputs": shapes(v for v in graph.input if v.name not in weights),
        "outputs": shapes(graph.output),
        "nodes": len(graph.node),
        "metadata": {one.key: _read(one.value) for one in model.metadata_props},
    }


def _read(value: str) -> Any:
    """What an exporter wrote as JSON; else the text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def table(found: Mapping[str, Any]) -> str:
    """Names and values, a line each, what is nested indented; long values are shortened.

    >>> print(table({"classes": 10, "layers": {"layer4": 512}}))
    classes: 10
    layers:
      layer4: 512
    """
    lines = []
    for name, value in found.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{name}:", *(f"  {line}" for line in table(value).split("\n"))]
        else:
            shown = value if isinstance(value, str) else json.dumps(value, default=str)
            short = shown if len(shown) <= 200 else f"{shown[:120]} ... ({len(shown)} characters)"
            lines.append(f"{name}: {short}")
    return "\n".join(lines)
