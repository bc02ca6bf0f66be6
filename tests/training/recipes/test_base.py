"""A recipe of one's own trains, resumes and is recorded as the package's do."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from matplotlib.figure import Figure

from learnable_cam_plugin import (
    RECIPES,
    CheckpointError,
    EveryThreshold,
    LCAMRecipe,
    LearnableCAMTrainer,
    LossWeights,
    calibrate,
    load_attention,
    register_recipe,
)
from learnable_cam_plugin.training import find_recipe

from ...conftest import UNIT, tiny_network
from ..test_trainer import Stops, loader, same


@dataclasses.dataclass(frozen=True)
class Smooth:
    """Neighbouring pixels alike, and the feature-weighted map not far from its start."""

    name: str = "smooth"
    roughness: float = 0.1
    rate_of_all: float = 0.05
    max_norm: float | None = None
    terms: ClassVar = ("loss", "rough", "away")
    starts: ClassVar = ("middle",)

    def start(self, classifier, images, kind, seed, progress):
        assert kind == "middle"
        return calibrate(classifier.model, classifier.layers, images)

    def step(self, classifier, images):
        def terms(attention, images, labels, seed):
            features, scores = classifier.clean_pass(images)
            (raw,) = attention(features, scores.argmax(1))
            noise = torch.rand(raw.shape, generator=torch.Generator().manual_seed(seed))
            rough, away = raw.diff(dim=1).square().mean(), (raw - noise).square().mean()
            return {"loss": self.roughness * rough + away, "rough": rough, "away": away}

        return terms

    def make_optimizer(self, attention):
        return torch.optim.SGD(attention.parameters(), lr=self.rate_of_all)

    def rate(self, done, epochs):
        return 1 - done / epochs

    def record(self):
        return dataclasses.asdict(self)


def trainer(recipe, **options):
    defaults = {"normalization": UNIT, "epochs": 3, "progress": False, "device": "cpu"}
    return LearnableCAMTrainer(tiny_network(), ["4"], recipe=recipe, **{**defaults, **options})


def test_it_trains_resumes_and_is_recorded(tmp_path):
    whole = trainer(Smooth())
    expected = whole.fit(loader())
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    assert {"rough", "away"} <= whole.history[0].keys()
    with pytest.raises(KeyboardInterrupt):
        trainer(Smooth(), output_dir=tmp_path, checkpoint_every=1).fit(Stops(loader(), 1, 1))
    resumed = trainer(Smooth(), output_dir=tmp_path, checkpoint_every=1).fit(loader(), resume=True)
    assert same(resumed, expected)
    record = load_attention(tmp_path / "attention").origin.recipe
    assert (record["name"], record["roughness"], record["start"]) == ("smooth", 0.1, "middle")
    with pytest.raises(CheckpointError, match=r"roughness: 0.1 then, 0.5 now"):
        trainer(Smooth(roughness=0.5), output_dir=tmp_path).fit(loader(), resume=True)
    with pytest.raises(CheckpointError, match=r"epochs: 3 then, 4 now"):  # its rate falls to 0
        trainer(Smooth(), output_dir=tmp_path, epochs=4).fit(loader(), resume=True)


def test_it_is_known_by_name_once_registered():
    recipe = Smooth(name="smoother")
    register_recipe(recipe)
    try:
        assert find_recipe("smoother") is recipe
        assert trainer("smoother").recipe is recipe
        with pytest.raises(ValueError, match="already: give yours another name"):
            register_recipe(Smooth(name="smoother"))
    finally:
        del RECIPES["smoother"]


def test_what_is_no_recipe_is_refused_with_what_it_lacks():
    with pytest.raises(TypeError, match=r"a dict is no recipe: it lacks \['name', 'terms'"):
        trainer({"name": "x"})
    with pytest.raises(ValueError, match=r"no head start: start must be one of \['middle'\]"):
        trainer(Smooth(), start="head")

    class Forgets(Smooth):
        terms: ClassVar = ("loss", "rough", "away", "steep")

    with pytest.raises(ValueError, match=r"without \['steep'\]: its recipe names them"):
        trainer(Forgets()).fit(loader())

    class Tells(Smooth):
        def record(self):
            return {"weights": torch.ones(2)}

    with pytest.raises(TypeError, match=r"record\(\) of 'smooth' gives cannot be saved"):
        trainer(Tells()).fit(loader())


OURS = [EveryThreshold(width=4), LCAMRecipe("l-cam-img", mask="image", optimizer="sgd")]


@pytest.mark.parametrize("recipe", OURS, ids=lambda recipe: recipe.name)
def test_every_setting_is_recorded_and_another_value_is_refused_on_resuming(tmp_path, recipe):
    trainer(recipe, output_dir=tmp_path, epochs=1).fit(loader())
    record = load_attention(tmp_path / "attention").origin.recipe
    other = {"mask": "features", "regularize": "batch", "optimizer": "adam", "max_norm": 0.5}
    other |= {"loss": LossWeights(power=0.4), "name": "other", "mechanism": {"trust": 0.4}}
    for setting in dataclasses.fields(recipe):
        assert setting.name in record
        now = getattr(recipe, setting.name)
        if isinstance(now, tuple):
            changed = (now[0], now[1] - 0.01)
        else:
            changed = other[setting.name] if setting.name in other else type(now)(now * 0.5 + 1e-3)
        changed = changed if changed != now else now + 1
        variant = dataclasses.replace(recipe, **{setting.name: changed})
        with pytest.raises(CheckpointError, match=f"{setting.name}: .* then, .* now"):
            trainer(variant, output_dir=tmp_path, epochs=1).fit(loader(), resume=True)


@pytest.mark.parametrize("recipe", [*OURS, Smooth()], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("validated", [True, False])
def test_the_history_draws_the_terms_that_the_recipe_names(
    tmp_path, monkeypatch, recipe, validated
):
    drawn = []

    def keep(figure, path, **_options):
        drawn.append([axis.get_legend_handles_labels() for axis in figure.axes])
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", keep)
    trainer(recipe, output_dir=tmp_path, epochs=2).fit(loader(), loader() if validated else None)
    panels = drawn[-1]
    assert [name.replace("_", " ") for name in recipe.terms] == panels[0][1]
    assert [p[1] for p in panels[1:]] == [["average drop", "increase in confidence"]] * validated
    assert all(len(line.get_xdata()) > 1 for lines, _ in panels for line in lines)
