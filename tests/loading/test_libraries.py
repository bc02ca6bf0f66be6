"""Without the library, or without a network, the error says what to do, within seconds."""

import socket
import time

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from learnable_cam_plugin import load_classifier
from learnable_cam_plugin.loading import libraries

for extra in ("timm", "transformers"):
    pytest.importorskip(extra, reason=f"the extra `{extra}`")


@pytest.mark.parametrize("extra", ["timm", "transformers"])
def test_a_missing_library_names_its_extra(monkeypatch, extra):
    monkeypatch.setitem(__import__("sys").modules, extra, None)  # import then fails
    with pytest.raises(ModuleNotFoundError) as raised:
        load_classifier(f"{extra}:anything")
    assert f"pip install 'learnable-cam-plugin[{extra}]'" in str(raised.value)
    assert raised.value.name == extra


def test_a_module_that_a_library_lacks_keeps_its_own_error(monkeypatch, tmp_path):
    (tmp_path / "half_installed.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        libraries.library("half_installed")


NAMES = ["torchvision:resnet18", "timm:convnext_tiny", "transformers:google/vit-base-patch16-224"]


@pytest.mark.parametrize("name", NAMES)
def test_without_a_network_the_way_is_said_within_seconds(name):
    began = time.perf_counter()
    with pytest.raises(ConnectionError, match="a local file for its weights, or 'random'") as e:
        load_classifier(name)
    assert time.perf_counter() - began < 10  # the import of transformers included
    assert f"'{name}' is not on this machine" in str(e.value)
    assert "Name or service not known" in str(e.value)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_hubs_offline_mode_is_the_same(monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="not on this machine"):
        load_classifier(name)


def test_what_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(libraries, "_WAIT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.undo()
        monkeypatch.setattr(libraries, "_WAIT", 0.2)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
        began = time.perf_counter()
        with pytest.raises(ConnectionError, match="not to be had"):
            libraries.from_hub("timm:x", lambda local: (_ for _ in ()).throw(OSError()))
        assert time.perf_counter() - began < 5


def test_what_is_in_the_cache_asks_nobody(monkeypatch):
    monkeypatch.setattr(libraries, "get_session", lambda: pytest.fail("the network was asked"))
    assert libraries.from_hub("timm:x", lambda local: local) is True


class Session:
    def head(self, *_, **__):
        return None


@pytest.mark.parametrize("gated", [False, True])
def test_an_unknown_repository_is_a_wrong_name(monkeypatch, gated):
    kind = libraries.GatedRepoError if gated else RepositoryNotFoundError

    def download(*_, local_files_only, **__):
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        raise kind.__new__(kind)

    monkeypatch.setattr(libraries, "get_session", Session)
    monkeypatch.setattr(libraries, "hf_hub_download", download)
    # a model that asks for consent is there, and the answer says that it is not to be had
    error, match = (ConnectionError, "Gated") if gated else (ValueError, "there is no 'no/such'")
    with pytest.raises(error, match=match):
        load_classifier("transformers:no/such")


def test_names_that_are_close_are_shown():
    assert str(libraries.unknown("no", "resnt18", ["resnet18", "vgg11"])).endswith(
        "no 'resnt18'; did you mean 'resnet18'?"
    )
    assert str(libraries.unknown("no", "xyz", ["resnet18"])) == "no 'xyz'"
