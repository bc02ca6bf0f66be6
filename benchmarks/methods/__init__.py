"""What pytorch-grad-cam lacks: RISE, SIDU, SISE, Ada-SISE, floors; TAME's attention mechanism."""

from .floor import Floor, centred_gaussian, random_grid
from .rise import RISE
from .sidu import SIDU
from .sise import SISE, above_otsu, positive
from .tame import TAMEAttention, tame_start

__all__ = [
    "RISE",
    "SIDU",
    "SISE",
    "Floor",
    "TAMEAttention",
    "above_otsu",
    "centred_gaussian",
    "positive",
    "random_grid",
    "tame_start",
]
