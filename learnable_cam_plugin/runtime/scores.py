"""What a classifier's scores (N, K) say, in numpy."""

import numpy as np


def highest(logits: np.ndarray, top: int) -> np.ndarray:
    """Of each row the indices (N, top) of the highest, of equal ones the first, as in the graph."""
    if not 1 <= top <= logits.shape[1]:
        raise ValueError(f"top must be 1 to {logits.shape[1]}, the classes, got {top}")
    return np.argsort(-logits, axis=1, kind="stable")[:, :top]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Of each class (N, K): the softmax, unless they are probabilities; of a single score, its
    sigmoid."""
    close = 1e-2 if logits.dtype == np.float16 else 1e-4
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        return 1 / (1 + np.exp(-logits))
    if logits.min() >= 0 and np.abs(logits.sum(1) - 1).max() < close:  # they are probabilities
        return logits
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)
