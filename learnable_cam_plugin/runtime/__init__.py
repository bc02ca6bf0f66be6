"""Classify and explain with a file of `export_onnx`: onnxruntime, numpy and Pillow are enough.

No torch, and nothing else of this package: the folder can be copied beside a service.
"""

from .explainer import Explainer, Explanation
from .photographs import EXTENSIONS, cropped, photo_files, read_photo

__all__ = ["EXTENSIONS", "Explainer", "Explanation", "cropped", "photo_files", "read_photo"]
