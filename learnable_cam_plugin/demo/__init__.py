"""A page on which a photograph is explained: what it computes, and the page itself, on Gradio."""

from .look import Look, Masked, explainer, look_at, mask, overlay, sentence
from .page import gradio, page, served

__all__ = [
    "Look",
    "Masked",
    "explainer",
    "gradio",
    "look_at",
    "mask",
    "overlay",
    "page",
    "sentence",
    "served",
]
