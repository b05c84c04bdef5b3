"""Run the demo as a user does."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Demo:
    """A finished demo: its summary, its folder and what it printed."""

    summary: dict[str, Any]
    folder: Path
    printed: str
    progress: str


def run_demo(folder: Path, *arguments: str) -> Demo:
    """Run ``gpsts demo`` in a process of its own."""
    command = [sys.executable, "-m", "bluesky_gpsts.cli", "demo"]
    done = subprocess.run(
        [*command, "--folder", str(folder), "--json", str(folder.parent / "out.json"), *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder.parent / "out.json").read_text())
    return Demo(summary, folder, done.stdout, done.stderr)
