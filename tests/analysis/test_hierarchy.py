"""Which class is broader: closed over steps, from names and from WordNet; circles refused."""

from itertools import pairwise

import pytest
from torchvision.models import EfficientNet_B0_Weights

from learnable_cam_plugin.analysis.hierarchy import Hierarchy, hierarchy_of, read_hierarchy

NAMES = ("ball", "rugby ball", "sphere, orb", "match")


def test_what_is_broader_than_the_broader_is_broader_too():
    found = hierarchy_of({"rugby ball": ["ball", "match"], "ball": "orb"}, NAMES)
    assert found.relation(0, 1) == found.relation(2, 1) == found.relation(3, 1) == "broader"
    assert found.relation(1, 2) == found.relation(0, 2) == "narrower"
    assert found.relation(0, 3) is found.relation(1, 1) is None
    assert found.above == {0: {2}, 1: {0, 2, 3}}


def test_an_empty_one_knows_of_nothing():
    assert Hierarchy().relation(0, 1) is None


def test_a_file_of_names_with_and_without_a_header(tmp_path):
    path = tmp_path / "h.csv"
    body = '# of balls\nRugby_Ball,ball\n\nball,"sphere, orb"\n'
    for head in ("", "narrower,broader\n", "\ufeffNarrower, broader\n"):
        path.write_text(head + body, encoding="utf-8")
        assert read_hierarchy(path, NAMES).above == {0: {2}, 1: {0, 2}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ball,rugby ball\nrugby ball,ball", "h.csv: no class can be broader than itself: "),
        ("ball,ball", "broader than itself: ball < ball"),
        ("rugby ball,bal", "h.csv: there is no class 'bal' .did you mean 'ball'"),
        ("ball", "line 1 is 'ball', it must be narrower,broader"),
        ("narrower,broader\nball,rugby ball,x", "line 2 is"),
        ("rugby ball,", "line 1 is"),
        ("", "names no classes"),
        ("n00000001 n00000002", "h.csv: .*those of the classes are not known"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content, message, tmp_path):
    (tmp_path / "h.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_hierarchy(tmp_path / "h.csv", NAMES)


def test_the_circle_is_named_from_narrow_to_broad():
    pairs = [("match", "ball"), ("ball", "rugby ball"), ("rugby ball", "orb"), ("orb", "ball")]
    with pytest.raises(ValueError, match="than itself: ") as raised:
        hierarchy_of(pairs, NAMES)
    circle = str(raised.value).partition(": ")[2].split(" < ")
    assert circle[0] == circle[-1]
    assert len(circle) == 4
    steps = {("ball", "rugby ball"), ("rugby ball", "sphere, orb"), ("sphere, orb", "ball")}
    assert set(pairwise(circle)) == steps


def test_wordnet_ids_between_classes_are_steps(tmp_path):
    """As in wordnet.is_a.txt: the broader first; ids that are of no class."""
    ids = ("n00000001", "n00000005", "n00000009")
    lines = ["n00000001 n00000003", "n00000003 n00000004", "n00000004 n00000005"]
    (tmp_path / "is_a.txt").write_text("\n".join([*lines, "n00000002 n00000001"]))
    assert read_hierarchy(tmp_path / "is_a.txt", ids).above == {1: {0}}


def test_wordnet_ids_of_imagenet_by_timm():
    pytest.importorskip("timm", reason="the extra `timm`")
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    found = hierarchy_of([("n01440764", "n02512053"), ("n02512053", "n01443537")], names)
    assert found.relation(1, 0) == "broader"
    with pytest.raises(ValueError, match="itself: tench < n02512053 < tench"):
        hierarchy_of([("n01440764", "n02512053"), ("n02512053", "n01440764")], names)


def test_a_file_as_large_as_wordnet(tmp_path):
    """That has 75,850 such lines, in chains of up to some 20 steps."""
    lines = [f"n{i // 4:08d} n{i:08d}" for i in range(1, 76_000)]
    (tmp_path / "is_a.txt").write_text("\n".join(lines))
    found = read_hierarchy(tmp_path / "is_a.txt", [f"n{i:08d}" for i in range(10_000, 76_000, 10)])
    assert found.relation(750, 6000) == "broader"  # 17,500 and 70,000
