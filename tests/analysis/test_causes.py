"""The rule, one cause at a time: on cases whose numbers say one thing."""

from dataclasses import fields, replace

import numpy as np
import pytest

from learnable_cam_plugin.analysis import CAUSES, Hierarchy, Thresholds, Trial, verdict
from learnable_cam_plugin.analysis.case import Agreement, Case, Maps, Photo

A, B, C = 0, 1, 2  # predicted, true, another class
FILLINGS = ("black", "mean", "blur")


def case(
    overlap=0.35,
    p=0.5,
    q=0.3,
    seen=0.5,
    erased=A,
    control=A,
    alone=C,
    other_alone=C,
    name="1.jpg",
) -> Case:
    """An error whose trials let those classes win."""
    grid, full = np.zeros((2, 2), np.float32), np.ones((4, 4), bool)
    other = np.full((2, 2), seen, np.float32)
    won = {
        ("predicted", "erase"): erased,
        ("random", "erase"): control,
        ("predicted", "keep"): alone,
        ("other", "keep"): other_alone,
    }
    trials = [Trial(*key, f, 0.4, 0.3, top, 0.4) for key, top in won.items() for f in FILLINGS]
    return Case(
        photo=Photo(name, B),
        predicted=A,
        other=B,
        probabilities={A: p, B: q},
        rank=2,
        size=(4, 4),
        maps=Maps(grid, other, grid, grid),
        regions={"predicted": full, "other": full},
        agreement=Agreement(overlap, 0.5, 0.1),
        trials=tuple(trials),
    )


def cause(found: Case, hierarchy=None, contexts=None, **thresholds) -> str:
    known = Hierarchy() if hierarchy is None else hierarchy
    return verdict(found, Thresholds(**thresholds), known, contexts or {}).cause


BROADER = Hierarchy({B: frozenset({A})})
RECURS = {A: ("1.jpg", "2.jpg", "3.jpg")}
TELLTALE = {
    "broader or narrower label": (case(), BROADER, None),
    "context": (case(other_alone=B), None, RECURS),
    "several objects": (case(overlap=0.1, alone=A, other_alone=B), None, None),
    "near-identical classes": (case(overlap=0.8), None, None),
    "something in front": (case(erased=B), None, None),
    "label doubtful": (case(p=0.95, q=0.001, seen=0.01), None, None),
    "undetermined": (case(), None, None),
}


def test_there_is_a_case_of_each_cause():
    assert list(TELLTALE) == list(CAUSES)


@pytest.mark.parametrize("expected", CAUSES)
def test_the_numbers_that_tell_a_cause_name_it(expected):
    assert cause(*TELLTALE[expected]) == expected


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("several objects", {"overlap": 0.3}),
        ("several objects", {"alone": C}),
        ("several objects", {"other_alone": A}),
        ("near-identical classes", {"overlap": 0.4}),
        ("near-identical classes", {"p": 0.2}),
        ("near-identical classes", {"q": 0.01}),
        ("something in front", {"erased": C}),
        ("something in front", {"control": B}),
        ("something in front", {"alone": A}),
        ("label doubtful", {"p": 0.5}),
        ("label doubtful", {"seen": 0.5}),
    ],
)
def test_without_any_one_of_its_conditions_the_cause_is_not_named(expected, change):
    settings = {
        "several objects": {"overlap": 0.1, "alone": A, "other_alone": B},
        "near-identical classes": {"overlap": 0.8},
        "something in front": {"erased": B},
        "label doubtful": {"p": 0.95, "q": 0.001, "seen": 0.01},
    }[expected]
    assert cause(case(**settings)) == expected
    assert cause(case(**(settings | change))) == "undetermined"


def test_a_context_is_of_the_images_in_which_it_recurs():
    assert cause(case(other_alone=B, name="9.jpg"), None, RECURS) == "undetermined"
    assert cause(case(other_alone=B), None, {C: RECURS[A]}) == "undetermined"


def test_every_condition_is_shown_with_its_numbers_also_of_causes_that_do_not_hold():
    found = verdict(case(overlap=0.1, alone=A), Thresholds(), Hierarchy(), {})
    assert set(found.checks) == set(CAUSES) - {"undetermined"}
    for checks in found.checks.values():
        for check in checks:
            assert check.holds == (
                check.value >= check.bound if check.above else check.value <= check.bound
            )
    names = [check.name for checks in found.checks.values() for check in checks]
    assert all(name == name.strip() and len(name) > 10 for name in names)


def test_without_trials_nothing_is_proved():
    bare = replace(case(overlap=0.1), trials=())
    assert cause(bare) == "undetermined"


def test_thresholds_are_adjustable():
    assert cause(case(overlap=0.4)) == "undetermined"
    assert cause(case(overlap=0.4), same=0.4) == "near-identical classes"


@pytest.mark.parametrize("name", [field.name for field in fields(Thresholds)])
def test_a_threshold_that_is_no_share_is_refused(name):
    for value in (-0.1, -1, float("nan"), True, "0.5"):
        with pytest.raises((TypeError, ValueError), match=name):
            Thresholds(**{name: value})
