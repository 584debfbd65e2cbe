"""Build hook: add man pages and shell completions, made from the parsers, to the wheel's shared data.

The parsers need what swarmtop needs at run time. An isolated build has none of it: the wheel is then built without
these files and says so; `make dist` builds in the project's own environment, with them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShellFiles(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        share = Path(self._folder.name)
        command = [sys.executable, str(Path(self.root) / "tools" / "shell_files.py"), str(share)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            reason = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
            self.app.display_warning(f"man pages and completions are left out ({reason}); make dist builds with them")
            return
        for path in sorted(share.rglob("*")):
            if path.is_file():
                build_data["shared_data"][str(path)] = f"share/{path.relative_to(share)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()
