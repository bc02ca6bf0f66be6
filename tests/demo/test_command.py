"""`learnable-cam demo`, as it is asked for in a shell."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from ..cli.networks import HERE
from ..cli.photographs import run

ROOT = Path(__file__).resolve().parents[2]


def test_without_gradio_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    refused = run("demo")
    assert refused.exit_code == 1
    assert refused.stderr.strip().endswith("pip install 'learnable-cam-plugin[demo]'")
    assert refused.stdout == ""


def test_what_is_wrong_is_a_line_and_nothing_is_served(tmp_path):
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, message in (
            (["--port", port], f"port {port} is taken: give another one with --port"),
            (["--attention", tmp_path / "gone"], "no attention at"),
        ):
            refused = run("demo", *arguments)
            assert refused.exit_code == 1, refused.output
            assert message in refused.stderr.splitlines()[-1]
            assert refused.stdout == ""
    assert run("demo", "--port", 0).exit_code == 2


def test_it_says_where_it_is_and_ctrl_c_ends_it(tmp_path):
    pytest.importorskip("gradio", reason="needs the extra `demo`")
    command = [sys.executable, "-m", "learnable_cam_plugin", "demo", "--model", f"{HERE}:small"]
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as page:
        try:
            address = page.stdout.readline().split()[0]
            with urllib.request.urlopen(f"{address}config") as answer:
                assert b":small sees" in answer.read()
            page.send_signal(signal.SIGINT)
            rest = page.communicate(timeout=30)
        finally:
            page.kill()
    assert page.returncode == 0, rest
    assert rest[0].strip() == ""
    assert "Traceback" not in rest[1]
