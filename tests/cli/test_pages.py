"""`learnable-cam explain`, on the photographs that packages ship."""

import json

from click.testing import CliRunner

from learnable_cam_plugin.cli import main
from learnable_cam_plugin.cli.classifiers import default_classifier
from learnable_cam_plugin.cli.pages import explain_photos
from learnable_cam_plugin.cli.photographs import shipped_photos


def test_it_explains_the_photographs_that_packages_ship(tmp_path):
    photos = shipped_photos()
    assert {"china.jpg", "flower.jpg"} <= {path.name for path in photos}
    rows, unread = explain_photos(default_classifier(), [], tmp_path, top=2)
    assert unread == []
    assert len(rows) == 2 * len(photos)
    assert json.loads((tmp_path / "explanations.json").read_text()) == rows
    assert (tmp_path / "explanations.png").stat().st_size > 50_000
    by_name = {row["photo"].split("/")[-1]: row["name"] for row in rows[::2]}
    if "chelsea.png" in by_name:
        assert "cat" in by_name["chelsea.png"]


def test_the_command_explains_a_photograph_of_ones_own(tmp_path, monkeypatch):
    # with the attention for every classifier: none of this network is needed
    monkeypatch.setattr("learnable_cam_plugin.pretrained.EFFICIENTNET_LITE0", tmp_path / "none")
    photo = shipped_photos()[-1]
    run = CliRunner().invoke(main, ["explain", str(photo), "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert photo.name in run.output
    for bad, message in ((tmp_path / "no.jpg", "no photograph at"), (__file__, "not a readable")):
        run = CliRunner().invoke(main, ["explain", str(bad), "--out", str(tmp_path / "bad")])
        assert run.exit_code == 1
        assert message in run.output
    assert not (tmp_path / "bad").exists()
