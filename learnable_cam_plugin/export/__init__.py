"""For deployment: one graph that returns the prediction and its explanation."""

from .explained import ExplainedClassifier

__all__ = ["ExplainedClassifier"]
