"""The card that save_pretrained writes: nothing left to fill in, and its code runs."""

import re
import sys

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from learnable_cam_plugin import (
    LCAMAttention,
    LearnableCAMTrainer,
    calibrate,
    condition,
    load_attention,
)
from learnable_cam_plugin.attention import Origin

from ..conftest import UNIT, tiny_network


def trained(tmp_path):
    model, generator = tiny_network().eval(), torch.Generator().manual_seed(0)
    loader = [torch.rand(4, 3, 20, 24, generator=generator) for _ in range(2)]
    trainer = LearnableCAMTrainer(
        model, ["2", "4"], normalization=UNIT, epochs=1, progress=False, device="cpu"
    )
    return trainer.fit(loader, loader)


KINDS = {
    "trained": trained,
    "classic": lambda _: calibrate(tiny_network().eval(), ["4"], torch.rand(2, 3, 20, 24)),
    "conditioned": lambda _: condition(tiny_network().eval(), ["2", "4"], torch.rand(2, 3, 20, 24)),
    "no origin": lambda _: LCAMAttention({"2": 6, "4": 8}, 5),
}


@pytest.fixture(params=KINDS)
def folder(request, tmp_path, monkeypatch):
    KINDS[request.param](tmp_path).save_pretrained(tmp_path / "my-attention")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "my-attention"


def test_nothing_is_left_to_fill_in(folder):
    text = (folder / "README.md").read_text()
    assert "More Information Needed" not in text
    assert not re.search(r"\bNone\b(?!:)|\{[a-z_]+\}|TODO", text)
    for heading in ("Use", "Training", "Figures", "Limits", "Citation", "Versions"):
        body = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        assert len(body.split()) >= 2, heading


def test_the_front_matter_is_what_the_hub_reads(folder):
    _, front, _ = (folder / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["library_name"] == "learnable-cam-plugin"
    assert about["license"] == "unknown"
    assert "class-activation-map" in about["tags"]
    assert ModelCard.load(folder / "README.md").data.to_dict() == about


def test_its_code_runs(folder):
    blocks = re.findall(r"```python\n(.+?)```", (folder / "README.md").read_text(), re.S)
    assert len(blocks) == 2
    space = {"model": tiny_network().eval(), "x": torch.rand(2, 3, 20, 24)}
    for block in blocks:
        exec(block, space)
    assert space["grayscale"].shape == (2, 20, 24)
    assert space["attribution"].shape == (2, 1, 10, 12)


def test_it_tells_what_was_recorded(tmp_path):
    attention = trained(tmp_path)
    attention.save_pretrained(tmp_path / "mine")
    text, recipe = (tmp_path / "mine" / "README.md").read_text(), attention.origin.recipe
    for line in (
        "| classifier (base model) | `torch.nn.modules.container.Sequential` |",
        "| layers | `2` (6 channels), `4` (8 channels) |",
        "| classes | 5 |",
        "(N, 3, 20, 24), from [0, 1] normalised with mean `[0.0]` and std `[1.0]`",
        "| `name` | `every-threshold` |",
        f"| `learning_rate` | `{recipe['learning_rate']}` |",
        "| `epochs` | `1` |",
        f"| `torch` | `{attention.origin.versions['torch']}` |",
        "any other is refused",
        "arXiv:2209.11189",
    ):
        assert line in text
    assert recipe["validation"]["images"] == 8
    assert f"| `average_drop` | `{recipe['validation']['average_drop']}` |" in text


def test_it_tells_what_was_not_recorded(tmp_path):
    LCAMAttention({"4": 8}, 5).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "not recorded: this attention has no origin" in text
    assert "nothing checks that it is used beside it" in text
    assert "no validation was recorded" in text


def test_what_only_people_know_can_be_told(tmp_path):
    about = {"data": "1,678 photographs", "license": "cc-by-4.0", "base_model": "timm/resnet50"}
    LCAMAttention({"4": 8}, 5).save_pretrained(tmp_path, model_card_kwargs=about)
    text = (tmp_path / "README.md").read_text()
    assert "| data | 1,678 photographs |" in text
    assert "| licence | `cc-by-4.0` |" in text
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.base_model) == ("cc-by-4.0", "timm/resnet50")


def test_a_card_is_of_the_attention_beside_it_unless_somebody_wrote_in_it(tmp_path):
    LCAMAttention({"4": 8}, 5).save_pretrained(tmp_path)
    LCAMAttention({"4": 8}, 7).save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    assert "| classes | 7 |" in card.read_text()
    changed = card.read_text().replace("## Limits\n", "## Limits\n\n- It was made in a hurry.\n")
    for theirs in (changed, "# Mine\n", ""):
        card.write_text(theirs)
        with pytest.warns(UserWarning, match=r"README\.md was written or changed by somebody"):
            LCAMAttention({"4": 8}, 9).save_pretrained(tmp_path)
        assert card.read_text() == theirs
        assert load_attention(tmp_path).num_classes == 9


def test_text_from_a_record_stays_text(tmp_path):
    odd = "a|b`c\n\n# Heading <b>\ud800" + "x" * 1000
    attention = LCAMAttention({"4`|": 8}, 5)
    attention.origin = Origin("a.B`|", {}, recipe={odd: odd, "data": odd, "validation": {odd: 1}})
    attention.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    for line in text.splitlines():
        if line.startswith("|") and "---" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) == 3, line
    assert "\n# Heading" not in text
    assert "<b>" not in text


def test_a_card_takes_no_more_than_the_package_brings(tmp_path, monkeypatch):
    """huggingface_hub's own cards need jinja2, which only the benchmarks install."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("huggingface_hub.repocard.is_jinja_available", lambda: False)
    LCAMAttention({"4": 8}, 5).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").exists()
