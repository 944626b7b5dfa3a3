"""The JavaScript runtime that yt-dlp needs for YouTube: pip brings one into the environment's own folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

LEAST_VERSIONS: dict[str, tuple[int, int]] = {"deno": (2, 3), "node": (22, 0)}
"""What today's yt-dlp accepts, best first."""


@cache
def find_runtime() -> tuple[str, str, str] | None:
    """Name, path and version of the first runtime that is new enough; None when there is none.

    The environment's own `bin` is looked at first: it need not be on `PATH` when a command is called by its
    full path.
    """
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    for name, least in LEAST_VERSIONS.items():
        path = shutil.which(name, path=places)
        if path is None:
            continue
        try:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        version = re.search(r"(\d+)\.(\d+)", said)
        if version is not None and (int(version[1]), int(version[2])) >= least:
            return name, path, version[0]
    return None
