"""No child of a probe gets the invite, the token, or a secret of the machine's owner."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from compute_rig import Rig, lines, running

import swarm_probe
from swarm_probe.compute.job import Done, Started
from swarm_protocol.child_environment import without_secrets
from swarm_protocol.trust import signing

SECRETS = {
    "SWARMTOP_INVITE": "inv",
    "SWARMTOP_TOKEN": "tok",
    "SWARM_COLLECTOR_STORE": "postgresql://u:p@db/swarm",
    "swarmtop_invite": "lower case",
    "HF_TOKEN": "hf_x",
    "OPENAI_API_KEY": "sk-x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "PGPASSWORD": "x",
    "GITHUB_PAT": "x",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "DATABASE_URL": "postgres://user:pass@db/x",
    "https_proxy": "http://user:pass@proxy:3128",
}
STARTS = re.compile(
    r"subprocess\.\w+|asyncio\.create_subprocess_\w+|os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*)"
)
NEEDED = {
    "PATH": "/usr/bin",
    "HOME": "/home/x",
    "PWD": "/home/x",
    "SWARMTOP_HOME": "/srv/swarmtop",
    "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
    "CUDA_VISIBLE_DEVICES": "0",
    "HSA_OVERRIDE_GFX_VERSION": "10.3.0",
    "OMP_NUM_THREADS": "4",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "XDG_CACHE_HOME": "/home/x/.cache",
    "no_proxy": "localhost",
    "HTTP_PROXY": "http://proxy:3128/a@b",
}


def test_what_looks_like_a_secret_is_left_out_and_all_else_passes() -> None:
    assert without_secrets({**SECRETS, **NEEDED}) == NEEDED


@pytest.fixture
def secret_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("secret_environment")
async def test_the_process_that_runs_torch_gets_no_secret(tmp_path: Path) -> None:
    """Read from the running child itself."""
    kept = tmp_path / "environment.json"
    dump = f"import json\njson.dump(dict(os.environ), open({str(kept)!r}, 'w'))\n"
    rig = Rig(dump + lines(Started(device="d"), Done()))
    async with running(rig):
        await rig.until(lambda: "figures" in rig.compute.status)
    environment = json.loads(kept.read_text())
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert not SECRETS.keys() & environment.keys()
    assert not set(SECRETS.values()) & set(environment.values())


@pytest.mark.usefixtures("secret_environment")
def test_the_process_that_signs_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    real = subprocess.run

    def spy(*arguments: Any, **options: Any) -> Any:
        given.update(options)
        return real(*arguments, **options)

    monkeypatch.setattr(signing.subprocess, "run", spy)
    public, _ = signing.sign_elsewhere(b"s" * 32, b"message")
    assert public == signing.public_key(b"s" * 32)
    assert not SECRETS.keys() & given["env"].keys()
    assert "PATH" in given["env"]


def test_every_process_that_a_probe_starts_is_given_an_environment() -> None:
    """One that is started without `env` inherits everything."""
    package = Path(str(swarm_probe.__file__)).parent
    files = [*package.rglob("*.py"), Path(signing.__file__)]
    starts, bare = 0, []
    for file in files:
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and STARTS.fullmatch(ast.unparse(call.func)):
                starts += 1
                if "env" not in {keyword.arg for keyword in call.keywords}:
                    bare.append(f"{file.name}:{call.lineno}")
    assert starts >= 3
    assert bare == []
