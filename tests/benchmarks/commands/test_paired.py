"""Paired differences and seeds, from made-up results whose answer is known."""

import json

import pytest
from click.testing import CliRunner

from benchmarks.commands.paired import main, paired_rows, read, seeds


def write(folder, name, passes, **columns):
    scores = {
        key.replace("_", " "): {"index": list(range(len(values))), "values": values}
        for key, values in columns.items()
    }
    content = {"method": name, "forward": passes, "backward": 0, "scores": scores}
    path = folder / "methods" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def results(tmp_path):
    even, odd = [10.0, 20.0] * 20, [14.0, 23.0] * 20
    write(tmp_path, "LearnableCAM", 1, **{"AD 100%": even, "IC 100%": even})
    write(tmp_path, "LearnableCAM (seed 1)", 1, **{"AD 100%": odd})
    write(tmp_path, "Grad-CAM", 1, **{"AD 100%": odd, "IC 100%": odd})
    write(tmp_path, "LayerCAM", 2, **{"AD 100%": even[::-1], "IC 100%": even})
    write(tmp_path, "RISE", 4001, **{"AD 100%": even[:8]})
    write(tmp_path, "forgotten", 1, **{"AD 100%": even})
    return tmp_path


def test_differences_are_paired_and_signed_by_what_is_better(results):
    found = read(results)
    assert "forgotten" not in found
    rows = {row["column"]: row for row in paired_rows(found, ["Grad-CAM"], set())}
    assert rows["AD 100%"]["better by"].startswith("+3.5 [+3.")  # lower is better
    assert rows["AD 100%"]["ahead of"] == "1 of 1"
    assert rows["IC 100%"]["better by"].startswith("-3.5")
    assert rows["IC 100%"]["behind"] == "Grad-CAM"
    rows = {row["column"]: row for row in paired_rows(found, ["Grad-CAM", "LayerCAM"], set())}
    assert rows["AD 100%"]["closest peer"] == "LayerCAM"
    assert (rows["AD 100%"]["ahead of"], rows["AD 100%"]["behind"]) == ("1 of 2", "none")


def test_a_slow_peer_is_met_on_its_own_images(results):
    (row,) = paired_rows(read(results), ["RISE"], set())
    assert (row["n"], row["LearnableCAM"], row["better by"]) == (8, "15.0", "+0.0 [+0.0, +0.0]")
    assert (row["ahead of"], row["behind"]) == ("0 of 0", "too few")


def test_of_few_images_there_is_no_verdict(tmp_path):
    write(tmp_path, "LearnableCAM", 1, **{"AD 100%": [1.0] * 9, "complexity": [40.0] * 10})
    write(tmp_path, "Grad-CAM", 1, **{"AD 100%": [9.0] * 9, "complexity": [30.0] * 10})
    rows = {row["column"]: row for row in paired_rows(read(tmp_path), ["Grad-CAM"], set())}
    assert (rows["AD 100%"]["ahead of"], rows["AD 100%"]["behind"]) == ("0 of 0", "too few")
    assert (rows["complexity"]["ahead of"], rows["complexity"]["behind"]) == ("0 of 1", "Grad-CAM")


def test_images_can_be_left_out(results):
    left_out = set(range(1, 40, 2))  # those of value 20
    rows = seeds(read(results), left_out)
    assert rows[0]["training 1"] == "10.0"
    assert rows[0]["training 2"] == "14.0"
    assert rows[0]["mean"] == "12.0 ± 2.8"


def test_the_command_writes_what_it_prints(results):
    run = CliRunner().invoke(main, [str(results)])
    assert run.exit_code == 0, run.output
    text = (results / "paired.md").read_text()
    assert text.strip() in run.output
    assert "LearnableCAM against the 2 peers of at most 10 passes" in text
    other = CliRunner().invoke(main, [str(results), "--ours", "LearnableCAM (seed 1)"])
    assert "| AD 100% | 18.5 | LayerCAM | -3.5" in other.output
    assert len(list(results.glob("paired*.md"))) == 2  # neither overwrites the other
    empty = CliRunner().invoke(main, [str(results / "methods")])
    assert empty.exit_code == 1
    assert "run `python -m benchmarks compare` first" in empty.output
