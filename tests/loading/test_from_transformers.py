"""transformers' record is the image processor and the configuration."""

import json
import shutil

import pytest
import torch

from learnable_cam_plugin import load_classifier

transformers = pytest.importorskip("transformers", reason="the extra `transformers`")
SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
NAMES = {0: "cat", 1: "dog", 2: "fox"}


@pytest.fixture
def folder(tmp_path):
    """A model as `save_pretrained` leaves it, with an image processor of its own."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL, id2label=NAMES)
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path / "mine")
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 32},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
    }
    (tmp_path / "mine" / "preprocessor_config.json").write_text(json.dumps(processor))
    return tmp_path / "mine", model.eval()


def test_a_folder_is_the_model_with_its_record(folder):
    path, model = folder
    loaded = load_classifier(f"transformers:{path}")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.model(x), model(x).logits)
    assert loaded.class_names == ("cat", "dog", "fox")
    assert loaded.side == 32
    assert loaded.normalization.mean == (0.1, 0.2, 0.3)
    assert loaded.normalization.std == (0.4, 0.5, 0.6)


def test_a_folder_without_a_processor_has_that_of_its_kind(folder):
    path, _ = folder
    (path / "preprocessor_config.json").unlink()
    assert load_classifier(f"transformers:{path}").normalization.mean == (0.5, 0.5, 0.5)


def test_a_processor_that_does_not_normalise_leaves_pixels(folder):
    path, _ = folder
    file = path / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_normalize": False}))
    normalization = load_classifier(f"transformers:{path}").normalization
    assert torch.equal(normalization.normalize(x := torch.rand(1, 3, 2, 2)), x)


def test_random_weights_and_a_file_of_a_folders_network(folder):
    path, model = folder
    drawn = load_classifier(f"transformers:{path}", "random", 4)
    assert drawn.model(torch.rand(1, 3, 32, 32)).shape == (1, 4)
    assert drawn.class_names is None
    read = load_classifier(f"transformers:{path}", path / "model.safetensors")
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(read.model(x), model(x).logits)
    assert read.class_names == ("cat", "dog", "fox")
    with pytest.raises(ValueError, match=r"another shape: classifier.bias \(3,\), not \(4,\)"):
        load_classifier(f"transformers:{path}", path / "model.safetensors", 4)


def test_a_file_of_another_network_names_what_does_not_fit(folder, tmp_path):
    path, model = folder
    state = model.state_dict()
    del state["vit.layernorm.weight"]
    torch.save({**state, "head.extra": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"missing: vit.layernorm.weight; not expected: head.extra"
    ):
        load_classifier(f"transformers:{path}", tmp_path / "w.pth")


def test_a_kind_of_network_has_random_weights_only():
    with pytest.raises(ValueError, match="pass weights='random' or a file"):
        load_classifier("transformers:ViTConfig")
    with pytest.raises(ValueError, match=r"did you mean .*'ViTConfig'"):
        load_classifier("transformers:VitConfig", "random")


def test_of_a_kind_with_several_networks_the_first_is_taken():
    loaded = load_classifier("transformers:DeiTConfig", "random")
    assert type(loaded.model.network).__name__ == "DeiTForImageClassification"


def test_what_is_in_the_hubs_cache_needs_no_network(folder, tmp_path):
    path, model = folder
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(path, repository / "snapshots" / commit)
    loaded = load_classifier("transformers:owner/name")
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded.model(x), model(x).logits)
    assert loaded.normalization.mean == (0.1, 0.2, 0.3)
    assert loaded.class_names == ("cat", "dog", "fox")
