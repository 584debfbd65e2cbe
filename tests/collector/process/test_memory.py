"""What the collector does about its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FREED = """
import psutil
from swarm_collector.process.memory import hand_back
blocks = [bytearray(100_000) for _ in range(500)]
del blocks[:-1]  # the last one is in use, above all the others
process = psutil.Process()
before = process.memory_info().rss
print(hand_back(), before - process.memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_memory_below_a_block_in_use_goes_back_to_the_system() -> None:
    """A fresh process: whether the C library keeps it depends on what was allocated before."""
    done = subprocess.run([sys.executable, "-c", _FREED], capture_output=True, text=True, check=True)
    told, freed = done.stdout.split()
    assert told == "True"
    assert int(freed) > 40_000_000
