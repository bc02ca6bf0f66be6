from pathlib import Path

import pytest

from .example import write_example


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of five methods on two images; Score-CAM is scored on the common subset only."""
    return write_example(tmp_path)
