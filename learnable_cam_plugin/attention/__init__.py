"""Attention mechanisms: feature maps -> raw class activation maps; and where they start."""

from .base import AttentionMechanism, load_attention, mechanisms
from .classic import ClassicHead
from .conditioned import ConditionedAttention, MapSettings
from .lcam import LCAMAttention
from .origin import Origin
from .starts import calibrate, condition, head_start, random_attention, universal_attention
from .universal import UniversalAttention

__all__ = [
    "AttentionMechanism",
    "ClassicHead",
    "ConditionedAttention",
    "LCAMAttention",
    "MapSettings",
    "Origin",
    "UniversalAttention",
    "calibrate",
    "condition",
    "head_start",
    "load_attention",
    "mechanisms",
    "random_attention",
    "universal_attention",
]
