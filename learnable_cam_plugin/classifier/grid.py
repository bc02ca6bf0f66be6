"""What layers of any layout give, as feature maps (N, C, h, w): tokens, channels last or first."""

import math

from torch import Size, Tensor

_EXTRA = (1, 0, 2, 5)  # tokens before those of places: a class token, none, distillation, registers


def as_grid(output: object, size: Size) -> Tensor | None:
    """A layer's output for images of `size` (H, W) as feature maps (N, C, h, w), a grid of the
    images' own shape; None for what is none.

    >>> from torch import rand
    >>> tuple(as_grid(rand(2, 50, 8), Size([224, 224])).shape)  # a class token, then 7 x 7
    (2, 8, 7, 7)
    >>> tuple(as_grid(rand(2, 14, 14, 96), Size([224, 224])).shape)  # channels last
    (2, 96, 14, 14)
    """
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or len(size) != 2:
        return None
    if output.ndim == 4:
        first, last = output.shape[2:], output.shape[1:3]
        wide = output.shape[3] > max(last)
        if wide and not _alike(first, size) and _alike(last, size):
            return output.permute(0, 3, 1, 2)
        return output
    tokens = output.shape[1]
    for extra in _EXTRA:
        rows = round(math.sqrt(max(0, tokens - extra) * size[0] / size[1]))
        if rows > 1 and (tokens - extra) % rows == 0:
            grid = (rows, (tokens - extra) // rows)
            if grid[1] > 1 and _alike(grid, size, 0.1):
                return output[:, extra:].transpose(1, 2).unflatten(2, grid)
    return None


def _alike(grid: tuple[int, ...], size: Size, within: float = 0.4) -> bool:
    """Whether a grid has about the proportions of the images."""
    return abs(math.log(grid[0] * size[1] / (grid[1] * size[0]))) < within


def places(maps: Tensor | None) -> int:
    """How many places feature maps have; 0 for None."""
    return 0 if maps is None else maps.shape[2] * maps.shape[3]
