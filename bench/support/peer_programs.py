"""Explain how to install the programs that benchmarks compare with, if they are missing."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Final

PEERS: Final = {
    "btop": "apt install btop",
    "htop": "apt install htop",
    "iperf3": "apt install iperf3",
    "irtt": "apt install irtt",
    "nvidia-smi": "install the driver of the card",
    "ping": "apt install iputils-ping",
    "simpy": "pip install simpy",
    "top": "apt install procps",
    "torch": "pip install torch==2.13.0",
}


def is_here(name: str) -> bool:
    """Return whether a program (or, of those installed by pip, a package) can be run here."""
    if PEERS[name].startswith("pip "):
        return importlib.util.find_spec(name) is not None
    return shutil.which(name) is not None


def left_out(*names: str) -> str:
    """Return a line for each that is missing: `irtt is not installed and left out (apt install irtt)`."""
    missing = [name for name in names if not is_here(name)]
    return "\n".join(f"{name} is not installed and left out ({PEERS[name]})" for name in missing)
