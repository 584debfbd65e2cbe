"""`swarmtop watch` on llama.cpp's own server, with a model of random weights made on the spot.

llama-cpp-python compiles for minutes, so it is in no test environment: SWARMTOP_LLAMA_CPP_PYTHON names an interpreter
that has it (`pip install 'llama-cpp-python[server]' gguf`), else this interpreter is tried.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmtop import cli

PYTHON = os.environ.get("SWARMTOP_LLAMA_CPP_PYTHON", sys.executable)
pytestmark = pytest.mark.skipif(
    sys.executable == PYTHON and importlib.util.find_spec("llama_cpp") is None,
    reason="llama-cpp-python is not installed; SWARMTOP_LLAMA_CPP_PYTHON names an interpreter that has it",
)
READY_WITHIN_S = 60


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    subprocess.run([PYTHON, str(Path(__file__).parent / "tiny_gguf.py"), str(model)], check=True, timeout=60)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/v1/models", server)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while True:
        assert server.poll() is None, "llama.cpp's server ended at once"
        assert time.monotonic() < until, "llama.cpp's server does not answer"
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)  # nothing of another program's tells when it is ready
            continue
        return


@pytest.mark.parametrize("way", [[], ["--completions"]])
def test_llama_cpp_is_watched_as_it_is(url: str, way: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["watch", url, "--requests", "2", "--every", "0", "--max-tokens", "24", "--json", *way])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    for line in out.splitlines():
        found = json.loads(line)
        assert found["model"].endswith("tiny.gguf")
        assert 0 < found["ttft_ms"] < 60_000
        assert found["finished"]
        assert 2 <= found["tokens"] <= 24
        assert found["tpot_ms"] > 0
