"""Pictures judged without the names: the order is hidden, and the votes are counted rightly."""

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks.commands import judge
from learnable_cam_plugin.attention import universal_attention
from learnable_cam_plugin.classifier import FrozenClassifier
from learnable_cam_plugin.data import NORMALIZATION, draw_images
from learnable_cam_plugin.pretrained import small_network


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of 14 drawn images as files, a saved attention)"""
    root = tmp_path_factory.mktemp("judge")
    folder = root / "photos"
    folder.mkdir()
    drawn = draw_images(14, 0).images
    pixels = NORMALIZATION.denormalize(drawn).clamp(0, 1).permute(0, 2, 3, 1) * 255
    for number, one in enumerate(pixels.byte().numpy()):
        Image.fromarray(one).save(folder / f"{number:02d}.png")
    torch.manual_seed(0)
    attention = universal_attention(small_network().eval(), ["features.1", "features"], drawn[:2])
    attention.save(root / "attention.safetensors")
    return folder, root / "attention.safetensors"


@pytest.fixture
def run(made, monkeypatch):
    """The command, with a tiny network in the place of EfficientNet-Lite."""
    torch.manual_seed(0)
    network = small_network().eval()
    classifier = FrozenClassifier.of(network, ["features.1", "features"], NORMALIZATION)
    monkeypatch.setattr(judge, "lite", lambda number: classifier)
    monkeypatch.setattr(judge, "SIDES", {2: 96})
    folder, attention = made

    def call(*options, judged=None, saved=True):
        options = [str(option) for option in options]
        if judged is not None:
            options += ["--data", str(folder), "--out", str(judged)]
            options += ["--attention", str(attention)] if saved else []
        return CliRunner().invoke(judge.main, options)

    return call


def key_of(folder):
    return json.loads((folder / "key.json").read_text())


def test_the_pages_show_both_maps_in_the_order_of_the_key_and_name_neither(
    run, tmp_path, monkeypatch
):
    shown = {}

    def noted(path, images, titles, maps, normalization, dpi):
        shown[path.name] = (titles, maps)
        picture(path, images, titles, maps, normalization, dpi)

    def constant(classifier, trained, images, classes):  # ours is 1 everywhere, the peer's 0
        return torch.ones(len(images), 96, 96), torch.zeros(len(images), 96, 96)

    picture = judge.picture
    monkeypatch.setattr(judge, "picture", noted)
    monkeypatch.setattr(judge, "both_maps", constant)
    made = run("--count", 13, "--seed", 3, judged=tmp_path)
    assert made.exit_code == 0, made.output
    pages = ["page-01.png", "page-02.png", "page-03.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key.json", *pages]
    assert list(shown) == pages
    rows = key_of(tmp_path)["rows"]
    assert [row["number"] for row in rows] == list(range(1, 14))
    for page, (titles, maps) in shown.items():
        of_page = [row for row in rows if row["page"] == page]
        assert [t.split(".")[0] for t in titles] == [str(row["number"]) for row in of_page]
        assert list(maps) == ["X", "Y"]
        for side in "XY":
            ours = [bool(one.all()) for one in maps[side]]
            assert ours == [row[side] == "universal" for row in of_page]
        for name in ("universal", "Grad-CAM"):
            assert not any(name in text for text in [*titles, *maps])
            assert name.encode() not in (tmp_path / page).read_bytes()
    with Image.open(tmp_path / pages[0]) as image:
        assert image.width > 900
        assert image.height > 1900


def test_the_order_is_random_drawn_from_the_seed_and_unknown_without_one(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(judge, "picture", lambda *_, **__: None)

    def order(name, *options):
        made = run("--count", 14, *options, judged=tmp_path / name)
        assert made.exit_code == 0, made.output
        key = key_of(tmp_path / name)
        return tuple(row["X"] for row in key["rows"]), key["seed"]

    assert order("a", "--seed", 1)[0] == order("b", "--seed", 1)[0]
    orders = {order(f"seed {seed}", "--seed", seed)[0] for seed in range(4)}
    assert len(orders) == 4
    assert all({"universal", "Grad-CAM"} == set(one) for one in orders)
    assert order("c")[1] != order("d")[1]
    ours = np.mean([np.random.default_rng(s).integers(2, size=30).mean() for s in range(200)])
    assert 0.45 < ours < 0.55


def test_the_attention_is_the_shipped_one_or_a_saved_one(run, made, tmp_path):
    for saved, name in ((True, "attention.safetensors"), (False, "universal.safetensors")):
        folder = tmp_path / name
        drawn = run("--count", 1, judged=folder, saved=saved)
        assert drawn.exit_code == 0, drawn.output
        assert key_of(folder)["attention"].endswith(f"/{name}")


def test_the_photographs_are_evenly_spread_and_both_methods_run(run, tmp_path):
    made = run("--count", 4, judged=tmp_path)
    assert made.exit_code == 0, made.output
    assert [row["photo"] for row in key_of(tmp_path)["rows"]] == [
        "00.png",
        "03.png",
        "07.png",
        "10.png",
    ]
    before = (tmp_path / "key.json").read_bytes()
    again = run("--count", 4, judged=tmp_path)  # the votes on the first would be lost
    assert again.exit_code == 1
    assert "choose another --out" in again.output
    assert (tmp_path / "key.json").read_bytes() == before
    for count in (0, 15):
        wrong = run("--count", count, judged=tmp_path / "other")
        assert wrong.exit_code == 1
        assert f"--count must be 1 to 14, the photographs there, got {count}" in wrong.output


@pytest.fixture
def judged(tmp_path):
    """A folder whose ours is X of the odd numbers, Y of the even ones."""
    rows = [
        {"number": n, "photo": f"{n}.jpg", "class": "tench", "p": 0.5, "page": "page-01.png"}
        | ({"X": "universal", "Y": "Grad-CAM"} if n % 2 else {"X": "Grad-CAM", "Y": "universal"})
        for n in range(1, 7)
    ]
    key = {"network": "efficientnet-lite2", "seed": 1, "rows": rows}
    (tmp_path / "key.json").write_text(json.dumps(key))
    return tmp_path


def uncover(run, folder, text):
    votes = folder / "votes.csv"
    votes.write_text(text)
    return run("--uncover", folder, "--votes", votes)


def test_votes_are_counted_and_the_lost_ones_listed_with_their_reasons(run, judged):
    text = (
        'number,vote,reason\n1,X,sharp\n2,x,"misses the head, a | b"\n\n3, = ,\n4,Y\n5,X,\n6,y,\n'
    )
    found = uncover(run, judged, text)
    assert found.exit_code == 0, found.output
    left = json.loads((judged / "judge.json").read_text())
    assert left["counts"] == {"universal": 4, "Grad-CAM": 1, "level": 1, "p": 0.375}
    assert [row["better"] for row in left["rows"]] == [
        "universal",
        "Grad-CAM",
        "level",
        "universal",
        "universal",
        "universal",
    ]
    table = (judged / "judge.md").read_text()
    assert "universal 4, Grad-CAM 1, level 1" in table
    assert r"| 2 | 2.jpg | tench | misses the head, a \| b |" in table
    assert "1.jpg" not in table
    assert table.strip() in found.output


def test_a_vote_that_is_missing_twice_or_unknown_is_named_and_nothing_uncovered(run, judged):
    found = uncover(run, judged, "1,X,\n1,Y,\n2,Z,\n7,X,\none,X,\n3,=,\n4,X\n5,X\n")
    assert found.exit_code == 1
    for message in (
        "line 2: a second vote on photograph 1",
        "line 3: the vote must be X, Y or =, got 'Z'",
        "line 4: there is no photograph '7'",
        "line 5: there is no photograph 'one'",
        "no vote on 2, 6",
    ):
        assert message in found.output
    assert "universal" not in found.output
    assert not (judged / "judge.json").exists()


def test_what_is_needed_is_said(run, judged, tmp_path):
    assert "give --data and --out, or --uncover and --votes" in run("--uncover", judged).output
    empty = tmp_path / "empty"
    empty.mkdir()
    missing = uncover(run, empty, "1,X\n")
    assert missing.exit_code == 1
    assert "there is no key.json in" in missing.output


def test_the_sign_test_is_that_of_the_binomial():
    assert judge.sign_test(5, 5) == 1
    assert judge.sign_test(18, 10) == judge.sign_test(10, 18)
    stats = pytest.importorskip("scipy.stats")
    for won, lost in ((20, 6), (3, 0), (1, 2), (30, 0)):
        expected = stats.binomtest(won, won + lost).pvalue
        assert math.isclose(judge.sign_test(won, lost), expected, rel_tol=1e-9)
