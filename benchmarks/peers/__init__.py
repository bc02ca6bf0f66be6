"""Methods that pytorch-grad-cam lacks, behind its interface: RISE, SIDU, SISE, Ada-SISE, floors."""

from .floor import Floor, centred_gaussian, random_grid
from .rise import RISE
from .sidu import SIDU
from .sise import SISE, above_otsu, positive

__all__ = [
    "RISE",
    "SIDU",
    "SISE",
    "Floor",
    "above_otsu",
    "centred_gaussian",
    "positive",
    "random_grid",
]
