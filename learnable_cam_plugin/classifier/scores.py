"""Whether a layer's output is what the class scores are."""

from typing import Any

import torch
from torch import Tensor


def gives_scores(output: Any, scores: Tensor) -> bool:
    """Whether the scores (N, K) are this output, or its softmax: then its classes are theirs.

    >>> logits = torch.rand(2, 5)
    >>> gives_scores(logits, logits), gives_scores(logits, logits.softmax(1))
    (True, True)
    >>> gives_scores(logits, logits.sigmoid()), gives_scores(logits[:, :4], logits)
    (False, False)
    """
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape != scores.shape:
        return False
    if torch.equal(output, scores):
        return True
    exact = scores.dtype in (torch.float32, torch.float64)
    close = 1e-5 if exact else 1e-2
    shares = output.softmax(1).to(scores)
    # of one class every score would be 1
    return output.shape[1] > 1 and torch.allclose(shares, scores, rtol=close, atol=close / 100)
