"""For deployment: one graph that returns the prediction and its explanation."""

from .explained import ExplainedClassifier
from .graph import FromPixels
from .onnx import export_onnx
from .quantized import quantize_onnx

__all__ = ["ExplainedClassifier", "FromPixels", "export_onnx", "quantize_onnx"]
