"""Attention mechanisms: feature maps -> raw class activation maps; and where they start.

| module | what |
| --- | --- |
| `base` | what every mechanism has; its file, and the one way to load it |
| `origin` | what a mechanism was made for |
| `lcam`, `conditioned` | a row of weights a class (L-CAM); one mechanism for all classes |
| `starts` | random weights, or the classifier's own head |
"""

from .base import AttentionMechanism, load_attention, mechanisms
from .conditioned import ConditionedAttention, MapSettings
from .lcam import LCAMAttention
from .origin import Origin
from .starts import calibrate, condition, head_start, random_attention

__all__ = [
    "AttentionMechanism",
    "ConditionedAttention",
    "LCAMAttention",
    "MapSettings",
    "Origin",
    "calibrate",
    "condition",
    "head_start",
    "load_attention",
    "mechanisms",
    "random_attention",
]
