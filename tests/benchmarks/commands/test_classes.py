"""What `classes` measures of maps: of mosaics whose answer is known."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from benchmarks.commands.classes import RANKS, area_under_roc, by_rank, finer, placed, plain
from learnable_cam_plugin import ContrastTarget
from learnable_cam_plugin.data import cell_regions


def test_the_area_is_the_share_of_pairs_in_order():
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(0, 5, (30,), generator=generator).float()
    other = torch.randint(0, 4, (20,), generator=generator).float()
    pairs = [(a > b) + (a == b) / 2 for a in one.tolist() for b in other.tolist()]
    assert area_under_roc(one, other) == pytest.approx(np.mean(pairs))
    assert area_under_roc(one, one) == pytest.approx(0.5)
    assert area_under_roc(one + 10, other) == 1.0


def test_a_map_is_placed_by_its_share_and_its_highest_place():
    cells = torch.tensor([0, 3])
    right = cell_regions(cells, (8, 8)).float()
    share, hit = placed(right, cells)
    assert share.tolist() == hit.tolist() == [1.0, 1.0]
    share, hit = placed(torch.ones(2, 8, 8), cells)
    assert share.tolist() == [0.25, 0.25]


def test_every_rank_is_in_one_range():
    for rank in range(1, 1001):
        assert sum(first <= rank <= last for first, last in RANKS.values()) == 1


class Oracle:
    """A method whose map is right for classes up to 9, and in the first cell for others."""

    def __init__(self, cells):
        self.cells = cells

    def __call__(self, images, targets):
        found = [self.cells.get(target.category, 0) for target in targets]
        return cell_regions(torch.tensor(found), images.shape[2:]).float().numpy()


def test_by_rank_asks_each_class_in_its_own_cell():
    classes = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    ranks = torch.tensor([[1, 2, 50, 60], [70, 80, 2, 1]])
    cam = Oracle({1: 0, 2: 1, 3: 2, 4: 3})
    rows = {row["rank"]: row for row in by_rank(cam, torch.zeros(2, 3, 8, 8), classes, ranks)}
    assert [rows[r]["maps"] for r in ("1", "2", "beyond 20")] == [2, 2, 4]
    assert set(rows) == {"1", "2", "beyond 20"}
    assert rows["1"]["in its cell"].startswith("50.0")  # right in one mosaic, wrong in the other
    assert rows["beyond 20"]["pointing"].startswith("50.0")


def test_targets_name_the_class_and_the_other_one():
    scores = torch.tensor([1.0, 5.0, 2.0])
    assert float(ContrastTarget(1, 2)(scores)) == 3.0
    assert isinstance(plain(1, 2), ClassifierOutputTarget)
    assert finer(1, 2).comparison_categories == [2]
