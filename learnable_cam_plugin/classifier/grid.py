"""What layers of any layout give, as feature maps (N, C, h, w): tokens, channels last or first."""

import math

from torch import Size, SymInt, Tensor

# tokens before those of places: a class token, none, distillation, registers with and without one
_EXTRA = (1, 0, 2, 5, 4)


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
        # of a graph of images of any size, the side that stays is that of the channels
        if isinstance(output.shape[1], SymInt):
            return output.permute(0, 3, 1, 2)
        if isinstance(output.shape[3], SymInt):
            return output
        # a single channel is no row of places
        if output.shape[1] == 1 or output.shape[3] <= max(output.shape[1:3]):
            return output
        first, last = (_off(grid, size) for grid in (output.shape[2:], output.shape[1:3]))
        rounded = abs(output.shape[2] - output.shape[3] * size[0] / size[1]) < 1 and last > 1e-6
        return output if rounded or last >= min(0.4, first / 2) else output.permute(0, 3, 1, 2)
    found = [(extra, grid) for extra in _EXTRA if (grid := _grid(output.shape[1] - extra, size))]
    if not found:
        return None
    # of few rows, two extra tokens could be one more column: then the proportions tell
    extra, grid = min(found, key=lambda one: _off(one[1], size) > 0.01)
    return output[:, extra:].transpose(1, 2).unflatten(2, grid)


def _grid(count: int, size: Size) -> tuple[int, int] | None:
    """The rows and columns of so many places of images of `size`, where they make a grid."""
    rows = round(math.sqrt(max(0, count) * size[0] / size[1]))
    if rows < 2 or count % rows or count == rows:
        return None
    grid = (rows, count // rows)
    return grid if _off(grid, size) < 0.1 else None


def _off(grid: tuple[int, ...], size: Size) -> float:
    """How far the proportions of a grid are from those of the images: 0 for the same."""
    return abs(math.log(grid[0] * size[1] / (grid[1] * size[0])))


def in_proportion(maps: Tensor, size: Size) -> bool:
    """Whether a grid is one of images of `size`, up to a row or column, and no list of tokens by
    the channels of an attention's heads.

    >>> from torch import rand
    >>> in_proportion(rand(1, 8, 7, 9), Size([96, 128])), in_proportion(rand(1, 8, 64, 12),
    ...                                                                 Size([64, 64]))
    (True, False)
    """
    rows, columns = maps.shape[2:]
    return _off((rows, columns), size) < 0.2 or abs(rows - columns * size[0] / size[1]) <= 1


def places(maps: Tensor | None) -> int:
    """How many places feature maps have; 0 for None."""
    return 0 if maps is None else maps.shape[2] * maps.shape[3]
