"""Any classifier by name, with what its own library records of it."""

from .load import load_classifier
from .loaded import LoadedClassifier

__all__ = ["LoadedClassifier", "load_classifier"]
