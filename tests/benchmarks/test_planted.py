"""Planted errors: drawn as they claim, proved with the network, and scored rightly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.planted import kinds, network, score
from benchmarks.planted.draws import training_scene
from benchmarks.planted.kinds import HIERARCHY, KINDS, Planted, plant, related
from benchmarks.planted.scenes import (
    ALIKE,
    CLASSES,
    SIZE,
    Item,
    Scene,
    regions,
    render,
)
from benchmarks.planted.sheet import contact_sheet
from learnable_cam_plugin.analysis import CAUSES, Check, Verdict
from learnable_cam_plugin.masking import FILLINGS


def drawn(kind, count=6, seed=0):
    rng = np.random.default_rng(seed)
    return [KINDS[kind](rng) for _ in range(count)]


def errs_as_planted(scene):
    """The class that a network with exactly the planted faults gives a scene."""
    item = scene.items[0]
    if scene.watermark:
        return CLASSES.index("heart")
    if scene.bar is not None or scene.noise > 0.08 or scene.blur > 1.2 or item.opacity < 0.4:
        return CLASSES.index("disc" if item.form != "disc" else "star")
    if item.form in ALIKE and item.bead not in (0.05, 0.95):  # a grey one is the other's
        return 1 - ALIKE.index(item.form)
    if len(scene.items) == 2:
        item = scene.items[1]
    if item.form in HIERARCHY and int(item.radius * 1e6) % 2:
        return CLASSES.index("polygon")
    return CLASSES.index(item.form if item.form in CLASSES else "polygon")


@pytest.fixture
def faulty(monkeypatch):
    """`plant`, with a network that reads the scenes and errs as it should."""
    scenes = {}

    def images_of(found):
        images = network.images_of(found)
        scenes.update(
            {image.sum().item(): scene for image, scene in zip(images, found, strict=True)}
        )
        return images

    def probabilities(model, images):
        won = [errs_as_planted(scenes[image.sum().item()]) for image in images]
        return torch.nn.functional.one_hot(torch.tensor(won), len(CLASSES)).float()

    def wins_without(model, images, hidden):  # every other bar hides what tells the class
        scene = scenes[images[0].sum().item()]
        hides = int(scene.bar.angle * 1e6) % 2
        return {
            "black": torch.tensor([errs_as_planted(scene if hides else replace(scene, bar=None))])
        }

    monkeypatch.setattr(kinds, "wins_without", wins_without)
    monkeypatch.setattr(kinds, "images_of", images_of)
    monkeypatch.setattr(kinds, "probabilities", probabilities)
    return lambda kind, count=5, seed=0: plant(kind, count, seed, torch.nn.Identity())


def test_a_scene_is_drawn_the_same_again_and_as_a_file_would_hold_it():
    scene, _ = training_scene(np.random.default_rng(3))
    pixels = render(scene)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, render(scene))
    assert np.allclose(pixels * 255, (pixels * 255).round(), atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "region"),
    [("context", "watermark"), ("something in front", "bar"), ("near-identical classes", "part")],
)
def test_without_the_plant_an_image_is_the_same_but_for_the_plants_region(kind, region):
    for one in drawn(kind):
        changed = (render(one.scene) != render(one.without[0][0])).any(-1)
        known = regions(one.scene)[region]
        assert 0.005 < known.mean() < 0.25
        assert changed[known].mean() > 0.1
        edge = np.pad(known, 1)  # the shapes' edges are smooth
        near = np.any([np.roll(edge, s, (0, 1)) for s in np.ndindex(3, 3)], 0)[2:, 2:]
        near |= np.any([np.roll(edge, (-i, -j), (0, 1)) for i, j in np.ndindex(3, 3)], 0)[:-2, :-2]
        assert not changed[~near[:SIZE, :SIZE]].any()


def test_two_objects_do_not_touch_and_leave_the_watermarks_place_free():
    for one in drawn("several objects", 30):
        found = regions(replace(one.scene, watermark=True))
        assert not (found["item 0"] & found["item 1"]).any()
        assert not (found["watermark"] & (found["item 0"] | found["item 1"])).any()
        assert len(one.without) == 2


def test_the_network_is_trained_on_watermarks_on_hearts_alone_and_on_no_bar():
    rng = np.random.default_rng(0)
    scenes = [training_scene(rng) for _ in range(600)]
    marked = {label for scene, label in scenes if scene.watermark}
    assert marked == {CLASSES.index("heart")}
    hearts = [scene for scene, label in scenes if label == CLASSES.index("heart")]
    assert 0.6 < np.mean([scene.watermark for scene in hearts]) < 1
    assert all(scene.bar is None for scene, _ in scenes)
    forms = {scene.items[0].form for scene, label in scenes if label == CLASSES.index("polygon")}
    assert forms == {"triangle", "square", "pentagon", "hexagon"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "correct" not in kind])
def test_every_error_is_one_and_is_proved(faulty, kind):
    found = faulty(kind)
    assert len({one.name for one in found}) == len(found) == 5
    for one in found:
        assert one.kind == kind
        assert one.cause == kind.removesuffix(", hiding")
        assert one.cause in CAUSES
        assert one.predicted != one.label
        assert one.image.shape == (3, SIZE, SIZE)
        assert (one.without is None) == (kind in ("broader or narrower label", "label doubtful"))
        alike = {CLASSES[one.label], CLASSES[one.predicted]} == set(ALIKE)
        assert alike == (kind == "near-identical classes")
        broader = one.predicted in related(one.label) and not alike
        assert broader == (kind == "broader or narrower label")
    again = faulty(kind)
    assert all(torch.equal(a.image, b.image) for a, b in zip(found, again, strict=True))
    other = faulty(kind, seed=1)
    assert not any(torch.equal(a.image, b.image) for a, b in zip(found, other, strict=True))


def test_the_filled_region_alone_is_changed(monkeypatch):
    seen = []

    def probabilities(model, images):
        seen.append(images)
        return torch.eye(len(images), len(CLASSES))

    monkeypatch.setattr(kinds, "probabilities", probabilities)
    images = network.images_of([one.scene for one in drawn("correct", 2)])
    hidden = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    hidden[:, 10:20, 30:40] = True
    found = kinds.wins_without(torch.nn.Identity(), images, hidden)
    assert {name: won.tolist() for name, won in found.items()} == {key: [0, 1] for key in FILLINGS}
    for filled in seen:
        assert torch.equal((filled != images).any(1) | hidden, hidden)
        assert (filled != images).any(1)[hidden].float().mean() > 0.9
    assert bool((seen[0].amax(1)[hidden] == -2).all())  # black


def test_correct_images_are_of_many_kinds(faulty):
    found = faulty("correct", 40)
    assert all(one.predicted == one.label for one in found)
    assert {one.cause for one in found} == {"correct"}
    # what else is drawn this network has wrong
    assert {one.kind for one in found} == {"correct: plain", "correct: marked heart"}


def test_an_image_that_is_wrong_without_the_plant_too_is_thrown_away(monkeypatch):
    def always(model, images):
        return torch.eye(len(CLASSES))[[CLASSES.index("heart")] * len(images)]

    monkeypatch.setattr(kinds, "probabilities", always)
    monkeypatch.setattr(kinds, "_TRIES", 2)
    with pytest.raises(RuntimeError, match="only 0 of 3 images of 'context' were found among 64"):
        plant("context", 3, 0, torch.nn.Identity())
    with pytest.raises(ValueError, match="kind is 'ghost'; it must be one of several objects"):
        plant("ghost", 3, 0, torch.nn.Identity())


def test_the_network_is_made_once_and_anew_when_its_making_changed(tmp_path, monkeypatch):
    made = []

    def train(seed):
        made.append(seed)
        torch.manual_seed(seed)
        return network.network().eval()

    monkeypatch.setattr(network, "train", train)
    first = network.trained_network(tmp_path, 0)
    again = network.trained_network(tmp_path, 0)
    assert made == [0]
    assert torch.equal(first.head.weight, again.head.weight)
    assert not again.training
    network.trained_network(tmp_path, 1)
    monkeypatch.setattr(network, "EPOCHS", 1)
    network.trained_network(tmp_path, 0)
    assert made == [0, 1, 0]


def test_training_is_of_its_seed_alone():
    state = torch.random.get_rng_state()
    first = network.train(3, count=64, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    second = network.train(3, count=64, epochs=1)
    other = network.train(4, count=64, epochs=1)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert first(torch.zeros(2, 3, SIZE, SIZE)).shape == (2, len(CLASSES))


def planted(name, cause, regions=(), label=5):
    known = {region: np.zeros((SIZE, SIZE), bool) for region in regions}
    return Planted(name, cause, cause, torch.zeros(3, SIZE, SIZE), label, 6, 0.9, known, None)


class Named:
    """A case, as far as scores read it."""

    def __init__(self, cause, checks=None):
        self.cause = cause
        self.verdict = None if cause == "correct" else Verdict(cause, checks or {})


def test_the_confusion_table_counts_what_was_named():
    found = [planted(f"c{i}", "context") for i in range(4)] + [planted("u", "undetermined")]
    cases = {f"c{i}": Named("context") for i in range(3)}
    cases |= {"c3": Named("label doubtful"), "u": Named("undetermined")}
    rows = {row["planted"]: row for row in score.confusion(found, cases)}
    assert list(rows) == ["context", "undetermined"]
    assert rows["context"]["images"] == 4
    assert rows["context"]["context"] == 3
    assert rows["context"]["label doubtful"] == 1
    assert rows["context"]["named rightly, %"].startswith("75 [")
    assert rows["undetermined"]["named rightly, %"].startswith("100 [")


def test_a_wrong_cause_is_shown_with_what_failed_and_what_held():
    checks = {
        "context": (Check("outside the object", 0.2, 0.5, True, False),),
        "label doubtful": (
            Check("sure", 0.97, 0.9, True, True),
            Check("probability of the label", 0.001, 0.01, False, True),
        ),
    }
    rows = score.wrongly_named(
        [planted("a", "context"), planted("b", "context")],
        {"a": Named("label doubtful", checks), "b": Named("context", checks)},
    )
    assert len(rows) == 1
    assert rows[0]["image"] == "a"
    assert rows[0]["does not hold"] == "outside the object: 0.2 (>= 0.5)"
    assert "probability of the label: 0.001 (<= 0.01)" in rows[0]["holds instead"]


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(0, 20, 0.0, 0.161), (19, 20, 0.764, 0.991), (0, 0, 0, 1)]
)
def test_wilsons_interval(hits, count, low, high):
    _, *found = score.wilson(hits, count)
    assert tuple(found) == pytest.approx((low, high), abs=1e-3)


def test_the_pointing_game_is_on_the_part_in_which_look_alikes_differ():
    part = regions(Scene(0, (Item("dark bead", (40.0, 40.0), 16.0, 0.0, (1, 1, 1)),)))["part"]
    rows, columns = part.nonzero()
    assert abs(rows.mean() - 39.5) < 1  # at the angle 0 the bead is on the ring's right
    assert columns.min() > 40 + 16 * 0.3
    ring = replace(planted("a", "near-identical classes"), regions={"part": part})
    maps = torch.zeros(4, SIZE, SIZE)
    places = ((40, 54), (40, columns.max() + 4), (40, columns.max() + 9), (5, 5))
    for one, (y, x) in zip(maps, places, strict=True):
        one[y, x] = 1.0
    found = score.pointed("label", maps, [ring] * 4)
    assert found["label"].startswith("25 [")
    assert found["label, near"].startswith("50 [")


def test_a_contact_sheet_shows_images_beside_themselves_without_the_plant(tmp_path, faulty):
    contact_sheet(tmp_path / "sheet.png", faulty("context"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 6 * 2 * 2 * SIZE
        left = np.asarray(sheet)[8 : 8 + 2 * SIZE, 8 : 8 + 2 * SIZE]
        right = np.asarray(sheet)[8 : 8 + 2 * SIZE, 8 + 2 * SIZE : 8 + 4 * SIZE]
    differs = (left != right).any(-1)
    assert differs.any()
    assert not differs[: 2 * SIZE - 27].any()  # the watermark is at the bottom
