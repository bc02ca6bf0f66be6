import json

import pytest
from click.testing import CliRunner

from learnable_cam_plugin import CheckpointError
from learnable_cam_plugin.cli import main
from learnable_cam_plugin.cli.quickstart import quickstart


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "out"
    rows = quickstart(
        out, train_images=128, test_images=32, classifier_epochs=1, attention_epochs=1
    )
    return out, rows


def test_it_leaves_the_table_the_picture_and_the_attention(result):
    out, rows = result
    assert rows[0]["method"] == "Grad-CAM"
    assert rows[-1]["method"] == "LearnableCAM"
    assert json.loads((out / "table.json").read_text())["rows"] == rows
    assert "LearnableCAM" in (out / "table.md").read_text()
    assert (out / "comparison.png").stat().st_size > 10_000
    assert (out / "attention" / "model.safetensors").exists()


def test_a_second_run_continues_and_other_settings_are_refused(result):
    out, rows = result
    sizes = {"train_images": 128, "test_images": 32, "classifier_epochs": 1}
    again = quickstart(out, **sizes, attention_epochs=1)
    assert [{**row, "ms": 0} for row in again] == [{**row, "ms": 0} for row in rows]
    with pytest.raises(CheckpointError, match="seed: 0 then, 1 now"):
        quickstart(out, seed=1, **sizes, attention_epochs=1)


def test_the_command_says_what_it_does():
    run = CliRunner().invoke(main, ["quickstart", "--help"])
    assert run.exit_code == 0
    assert "--seed" in run.output
