"""What class scores are: a layer's output, and as probabilities."""

from typing import Any

import torch
from torch import Tensor

_EXACT = {torch.float32, torch.float64}


def gives_scores(output: Any, scores: Tensor) -> bool:
    """Whether the scores (N, K) are this output, its softmax, or the logarithm of that: then its
    classes are theirs.

    >>> logits = torch.rand(2, 5)
    >>> [gives_scores(logits, scores) for scores in
    ...  (logits, logits.softmax(1), logits.log_softmax(1))]
    [True, True, True]
    >>> gives_scores(logits, logits.sigmoid()), gives_scores(logits[:, :4], logits)
    (False, False)
    """
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape != scores.shape:
        return False
    if torch.equal(output, scores):
        return True
    close = 1e-5 if {output.dtype, scores.dtype} <= _EXACT else 1e-2
    if output.shape[1] == 1:  # every score would be 1, or 0
        return False
    wide = output.double() if output.dtype == torch.float64 else output.float()  # as autocast does
    if torch.allclose(wide.softmax(1).to(scores), scores, rtol=close, atol=close / 100):
        return True
    return torch.allclose(wide.log_softmax(1).to(scores), scores, rtol=close, atol=close)


def still_gives(output: Any, scores: Tensor) -> bool:
    """Whether the scores of another pass are of an output that gave them before: as `gives_scores`,
    or behind a temperature that was fitted since, so many times the output.

    >>> logits = torch.rand(2, 5)
    >>> still_gives(logits, logits / 3), still_gives(logits, logits + torch.rand(2, 5))
    (True, False)
    """
    if gives_scores(output, scores):
        return True
    if not isinstance(output, Tensor) or output.shape != scores.shape or output.shape[1] == 1:
        return False
    close = 1e-4 if {output.dtype, scores.dtype} <= _EXACT else 1e-2
    output, scores = output.float(), scores.float()
    times, least = (output * scores).sum() / (output * output).sum(), close * scores.abs().amax()
    return bool(times > 0) and torch.allclose(times * output, scores, rtol=close, atol=float(least))


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
    exact, scores = scores.dtype in _EXACT, scores.float()
    if scores.shape[1] == 1:
        return scores.sigmoid()
    off, close = (scores.sum(1) - 1).abs(), 1e-4 if exact else 1e-2
    shares = bool((scores >= 0).all() & (off < close).all())
    return scores if shares else scores.softmax(1)


def both_sides(scores: Tensor) -> Tensor:
    """A single score (N, 1) as those of two classes: that it is there, and, 1, that it is not; of
    more classes (N, K) their own.

    >>> both_sides(torch.tensor([[2.0]]))
    tensor([[2., 0.]])
    """
    return torch.cat([scores, torch.zeros_like(scores)], 1) if scores.shape[1] == 1 else scores


def top_class(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Probability and index of the most probable class, (N,) each, of `both_sides`."""
    highest, classes = probabilities(both_sides(scores)).max(1)
    return highest, classes
