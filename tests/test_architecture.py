"""The flow is what CONTRIBUTING draws: contracts, no cycles behind TYPE_CHECKING, small modules."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("learnable_cam_plugin", "benchmarks")
MODULES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
# classes that only their own files may ask for with isinstance
OWN = {
    "AttentionMechanism": "attention/source.py",
    "LCAMAttention": "attention/lcam.py",
    "ConditionedAttention": "attention/conditioned.py",
    "TAMEAttention": "methods/tame.py",
    "TrainingRecipe": "recipes/base.py",
    "LCAMRecipe": "recipes/lcam.py",
    "EveryThreshold": "recipes/every_threshold.py",
}


def contracts(folder: Path) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path):
    """The packages and the contracts, to be changed."""
    pytest.importorskip("importlinter", reason="needs import-linter, of the extra `test`")
    ignore = shutil.ignore_patterns("__pycache__", "results", "*.safetensors")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_the_contracts_hold(copy):
    found = contracts(copy)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    "line",
    [
        "from ..loop import TrainingRun",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..loop import TrainingRun",
    ],
    ids=["plain", "TYPE_CHECKING"],
)
def test_an_upward_import_put_back_breaks_them(copy, line):
    """A recipe that sees the loop: the circle that the protocol took the place of."""
    path = copy / "learnable_cam_plugin" / "training" / "recipes" / "every_threshold.py"
    text = path.read_text()
    anchor = "from .base import Step\n"
    assert anchor in text
    path.write_text(text.replace(anchor, f"{anchor}{line}\n"))
    found = contracts(copy)
    assert found.returncode == 1
    assert "recipes.every_threshold" in found.stdout
    assert "BROKEN" in found.stdout


def test_every_sub_package_is_named_in_a_contract():
    text = (ROOT / ".importlinter").read_text()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("__init__.py"):
            package = path.parent.relative_to(ROOT)
            if len(package.parts) > 1 and "results" not in package.parts:
                assert f"containers = {'.'.join(package.parts)}\n" in text, package


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_fits_in_the_head(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    assert "TYPE_CHECKING" not in text
    assert "captum._" not in text
    asked = [
        ast.unparse(node.args[1])
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass")
    ]
    for name, own in OWN.items():
        assert str(path).endswith(own) or not any(name in kinds.split() for kinds in asked), name
