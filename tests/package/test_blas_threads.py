"""The commands limit OpenBLAS to one thread before anything imports numpy."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMANDS = {
    "swarmtop.cli": "main(['plan', '--nodes', '4090', '--model', 'gpt2'])",
    "swarm_collector.cli": "main(['--listen', 'nowhere:1'])",
}
PROGRAM = """
import os, sys
from {module} import main
assert "numpy" not in sys.modules
try: {call}
except SystemExit: pass
print("threads", os.environ["OPENBLAS_NUM_THREADS"])
"""


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize(("given", "threads"), [(None, "1"), ("2", "2")])
def test_matrix_products_use_one_thread_unless_told_otherwise(module: str, given: str | None, threads: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    environment |= {"OPENBLAS_NUM_THREADS": given} if given else {}
    program = PROGRAM.format(module=module, call=COMMANDS[module])
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert f"threads {threads}\n" in done.stdout
