"""What `tests/reliability/test_files.py` has at length, once in short."""

import pytest

from learnable_cam_plugin.atomic import atomic_path


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("whole")

    def write():
        with atomic_path(file) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert file.read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
