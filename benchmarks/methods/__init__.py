"""What is compared: this package's methods, pytorch-grad-cam's, and what that lacks."""

from . import catalogue
from .learned import Learned, untrained, with_attention
from .registry import METHODS, Explain, Method, find_methods, opened, register_method

__all__ = [
    "METHODS",
    "Explain",
    "Learned",
    "Method",
    "catalogue",
    "find_methods",
    "opened",
    "register_method",
    "untrained",
    "with_attention",
]
