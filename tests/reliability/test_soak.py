"""The short form of the soak: `python -m tests.reliability.soak` is the long one."""

import json

import pytest
from click.testing import CliRunner

from . import soak
from .inputs import INPUTS, refused
from .kills import SCENARIOS, kill_in_process


def test_threads_get_the_sequential_answers():
    assert soak.serve(threads=8, requests=50) == {"threads": 8, "requests": 400, "wrong": 0}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_is_killed_is_whole_and_ends_as_if_it_had_not_been(scenario, tmp_path):
    found = kill_in_process(scenario.name, tmp_path, kills=4, seed=1)
    assert found["kills"] == 4
    assert found["ends compared"] >= 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_is_none_is_refused_in_plain_words(name, tmp_path):
    refused(name, tmp_path)


def test_there_are_a_hundred_kinds_of_them():
    assert len(INPUTS) >= 100


def test_the_soak_leaves_its_figures(tmp_path):
    options = ["--threads", "2", "--requests", "3", "--kills", "4", "--files", "8"]
    run = CliRunner().invoke(soak.main, [*options, "--out", str(tmp_path)], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    rows = json.loads((tmp_path / "soak.json").read_text())["rows"]
    assert len(rows) == len(SCENARIOS) + 3
    assert "wrong 0" in (tmp_path / "soak.md").read_text()
