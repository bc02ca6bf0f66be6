"""What is compared: this package's methods, pytorch-grad-cam's, and what that lacks.

`registry` is how a method is declared, `learned` how one is trained; `catalogue`, imported here,
declares those of the comparison. RISE, SIDU, SISE with Ada-SISE, the floors and TAME's attention
have a file each.
"""

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
