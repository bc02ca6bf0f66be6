"""Nothing goes to the network that was not asked to; what comes from the hub says which it is."""

import socket
from pathlib import Path

import huggingface_hub
import pytest
import torch

from learnable_cam_plugin import (
    AttentionMechanism,
    CheckpointError,
    LayerLearnableCam,
    LCAMAttention,
    LearnableCAM,
    load_attention,
)
from learnable_cam_plugin.attention import hub

COMMIT, OLDER = "0123456789abcdef0123456789abcdef01234567", "f" * 40


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def connect(*_):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, as huggingface_hub lays it out, with two commits of one repository."""
    folder = tmp_path / "cache" / "models--owner--name"
    attentions = {}
    for commit in (COMMIT, OLDER):
        attentions[commit] = LCAMAttention({"4": 8}, 5)
        attentions[commit].save(folder / "snapshots" / commit / "model.safetensors")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "refs" / "v1").write_text(OLDER)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder.parent))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return attentions


def same(a, b):
    return torch.equal(a.weights[0], b.weights[0])


NO_HUB = ["my-atention", "owner/name", "a/b/c", "./owner/name", "owner/name.safetensors", "~/x", ""]
PATHS = [*NO_HUB, *map(Path, NO_HUB), Path("/nowhere/name"), "/nowhere/name", Path("hf://owner/n")]


@pytest.mark.parametrize("source", PATHS, ids=repr)
def test_a_path_that_is_not_there_is_said_at_once(cache, source, tiny):
    """Even with a repository of that name: whoever registers a name that is mistyped is not run."""
    for load in (
        load_attention,
        lambda path: LearnableCAM(tiny, ["4"], attention=path),
        lambda path: LayerLearnableCam(tiny, tiny[4], path),
    ):
        with pytest.raises(FileNotFoundError, match="no attention at"):
            load(source)


def test_the_way_to_the_hub_is_told_where_it_may_be_meant(cache):
    with pytest.raises(FileNotFoundError, match="hub write 'hf://owner/name'"):
        load_attention("owner/name")
    with pytest.raises(FileNotFoundError) as caught:
        load_attention("a/folder/attention")
    assert "hf://" not in str(caught.value)
    assert str(Path("a/folder/attention").absolute()) in str(caught.value)


def test_what_is_downloaded_says_which_commit_it_is(cache):
    for name, commit in {
        "hf://owner/name": COMMIT,
        "hf://owner/name@main": COMMIT,
        "hf://owner/name@v1": OLDER,
        f"hf://owner/name@{OLDER}": OLDER,
    }.items():
        loaded = load_attention(name)
        assert same(loaded, cache[commit])
        assert loaded.source == f"hf://owner/name@{commit}"
        assert same(load_attention(loaded.source), loaded)


def test_what_is_read_from_the_disk_says_from_where(tmp_path, monkeypatch):
    LCAMAttention({"4": 8}, 5).save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert load_attention("mine").source == str(tmp_path / "mine" / "model.safetensors")
    assert LCAMAttention({"4": 8}, 5).source is None


def test_from_pretrained_asks_the_hub_for_owner_and_name(cache, tmp_path):
    for name, options, commit in (
        ("owner/name", {}, COMMIT),
        ("owner/name", {"revision": "v1"}, OLDER),
        ("hf://owner/name", {"revision": "v1"}, OLDER),
        ("hf://owner/name@v1", {}, OLDER),
        ("owner/name", {"cache_dir": tmp_path / "cache", "local_files_only": True}, COMMIT),
    ):
        loaded = LCAMAttention.from_pretrained(name, **options)
        assert same(loaded, cache[commit])
        assert loaded.source == f"hf://owner/name@{commit}"


@pytest.mark.parametrize(
    "name", [Path("owner/name"), "owner/name.safetensors", "/owner/name", "./owner/name", "name"]
)
def test_from_pretrained_asks_no_hub_for_a_path(cache, name):
    with pytest.raises(FileNotFoundError, match="no attention at"):
        AttentionMechanism.from_pretrained(name)


def test_a_folder_comes_before_the_hub(cache, tmp_path):
    """And where there is a folder 'owner', 'owner/name' is in it, or is not there."""
    (tmp_path / "owner").mkdir()
    with pytest.raises(FileNotFoundError, match="no attention at"):
        AttentionMechanism.from_pretrained("owner/name")
    attention = LCAMAttention({"4": 8}, 5)
    attention.save_pretrained("owner/name")
    assert same(AttentionMechanism.from_pretrained("owner/name"), attention)
    with pytest.raises(ValueError, match="revision='v1' is for the hub"):
        AttentionMechanism.from_pretrained("owner/name", revision="v1")


def test_what_is_not_to_be_had_is_named(cache):
    with pytest.raises(FileNotFoundError, match="no attention at 'hf://nobody/nothing@v2': not to"):
        load_attention("hf://nobody/nothing@v2")


@pytest.mark.parametrize("name", ["hf://name", "hf://", "hf://a/b/c", "hf://a/b@", "hf://a b/c"])
def test_a_misspelt_repository_is_told_how_it_is_spelt(name):
    with pytest.raises(ValueError, match="a hub repository is 'hf://owner/name'"):
        load_attention(name)


def test_two_revisions_are_one_too_many(cache):
    with pytest.raises(ValueError, match="two revisions"):
        AttentionMechanism.from_pretrained("hf://owner/name@v1", revision="main")


def test_a_download_is_checked_as_any_file_is(cache, tmp_path):
    path = tmp_path / f"cache/models--owner--name/snapshots/{COMMIT}/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_attention("hf://owner/name")


def test_a_config_beside_the_file_changes_nothing(cache, tmp_path):
    """Only the file counts: what else a repository holds is not read."""
    (tmp_path / f"cache/models--owner--name/snapshots/{COMMIT}/config.json").write_text("{")
    assert same(AttentionMechanism.from_pretrained("owner/name"), cache[COMMIT])
    LCAMAttention({"4": 8}, 5).save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "config.json").write_text('{"num_classes": 7}')
    assert LCAMAttention.from_pretrained(tmp_path / "mine").num_classes == 5


def test_the_hub_is_asked_with_the_options_given(monkeypatch, tmp_path):
    asked = []

    def download(repository, file, **options):
        asked.append((repository, file, options))
        raise ConnectionError("no way")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(FileNotFoundError, match="ConnectionError: no way"):
        LCAMAttention.from_pretrained("owner/name", token="t", force_download=True)
    expected = {"revision": None, "token": "t", "force_download": True}
    assert asked == [("owner/name", "model.safetensors", expected)]


def test_a_push_carries_a_card_that_loads_from_there(monkeypatch, tmp_path):
    pushed = {}

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **_):
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, folder_path, repo_id, **_):
            pushed[repo_id] = {p.name: p.read_text("latin1") for p in Path(folder_path).iterdir()}
            return "the commit"

        def whoami(self):
            return {"name": "me"}

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr("learnable_cam_plugin.attention.base.HfApi", Api)
    attention = LCAMAttention({"4": 8}, 5)
    assert attention.push_to_hub("owner/name", model_card_kwargs={"license": "mit"}) == "the commit"
    files = pushed.pop("owner/name")
    assert files.keys() == {"README.md", "config.json", "model.safetensors"}
    assert 'attention="hf://owner/name"' in files["README.md"]
    assert "license: mit" in files["README.md"]
    said = attention.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="owner/other")
    assert said == "the commit"
    assert 'attention="hf://owner/other"' in pushed["owner/other"]["README.md"]
    assert 'attention="mine"' in (tmp_path / "mine" / "README.md").read_text()
    attention.push_to_hub("mine")
    assert 'attention="hf://me/mine"' in pushed["me/mine"]["README.md"]
