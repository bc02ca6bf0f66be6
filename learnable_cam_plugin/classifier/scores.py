"""What class scores are: a layer's output, and as probabilities."""

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


def probabilities(scores: Tensor) -> Tensor:
    """Class scores (N, K) as probabilities, float32: their softmax; of a single score the sigmoid.

    Scores that are probabilities already stay as they are: none below 0, and each row adds up to 1,
    as after a softmax. Those of labels that do not exclude each other cannot be told from logits.

    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> probabilities(logits).equal(probabilities(logits.softmax(1)))
    True
    >>> probabilities(torch.tensor([[0.0], [-30.0]])).round().tolist()
    [[0.0], [0.0]]
    """
    exact, scores = scores.dtype in (torch.float32, torch.float64), scores.float()
    if scores.shape[1] == 1:
        return scores.sigmoid()
    off, close = (scores.sum(1) - 1).abs(), 1e-4 if exact else 1e-2
    shares = bool((scores >= 0).all() & (off < close).all())
    return scores if shares else scores.softmax(1)
