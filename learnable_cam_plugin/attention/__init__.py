"""Attention mechanisms: feature maps -> raw class activation maps; and where they start."""

from .base import AttentionMechanism, mechanisms
from .calibration import calibrate, head_start
from .conditioned import ConditionedAttention, MapSettings
from .default import own_attention
from .given import GivenAttention
from .headed import HeadedAttention, gives_logits, known_of, raw_class_maps
from .hub import check_folder, source_name
from .lcam import LCAMAttention
from .origin import Origin
from .shipped import shipped_attention, shipped_beside
from .source import load_attention
from .starts import condition, random_attention, universal_attention, universal_beside
from .universal import UniversalAttention

__all__ = [
    "AttentionMechanism",
    "ConditionedAttention",
    "GivenAttention",
    "HeadedAttention",
    "LCAMAttention",
    "MapSettings",
    "Origin",
    "UniversalAttention",
    "calibrate",
    "check_folder",
    "condition",
    "gives_logits",
    "head_start",
    "known_of",
    "load_attention",
    "mechanisms",
    "own_attention",
    "random_attention",
    "raw_class_maps",
    "shipped_attention",
    "shipped_beside",
    "source_name",
    "universal_attention",
    "universal_beside",
]
