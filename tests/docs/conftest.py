"""A page runs in an empty folder, and leaves the registries as they were."""

import pytest

from learnable_cam_plugin import RECIPES
from learnable_cam_plugin.metrics import METRICS


@pytest.fixture(autouse=True)
def registries():
    """What a page registers goes when its test ends."""
    from benchmarks.methods import METHODS

    kept = [(registry, dict(registry)) for registry in (RECIPES, METRICS, METHODS)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
