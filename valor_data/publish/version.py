"""The version of a data set: three numbers in `WORK/version.json`, 1.0.0 until somebody raises it.

The first number changes when clips become other clips (another plan, other sample settings), the second when clips
are added, removed or captioned anew, the third when nothing but words about the set change.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass

from valor_data.errors import ConfigError
from valor_data.workdir import WorkDir, written_aside

PARTS: tuple[str, ...] = ("major", "minor", "patch")
"""What can be raised; the numbers behind it become 0."""


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version of a data set, `1.4.0`."""

    major: int = 1
    minor: int = 0
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Version:
        """Reads `1.4.0`.

        Raises:
            ConfigError: it is not of that form.
        """
        match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", text.strip(), re.ASCII)
        if match is None:
            raise ConfigError(f"version {text!r}: expected three numbers such as 1.0.0")
        return cls(*map(int, match.groups()))

    def raised(self, part: str) -> Version:
        """The next version.

        Raises:
            ConfigError: there is no such part.
        """
        if part not in PARTS:
            raise ConfigError(f"--bump {part}: expected one of {', '.join(PARTS)}")
        if part == "major":
            return Version(self.major + 1)
        if part == "minor":
            return Version(self.major, self.minor + 1)
        return Version(self.major, self.minor, self.patch + 1)

    @property
    def tag(self) -> str:
        """The name of its tag in a repository, `v1.4.0`."""
        return f"v{self}"

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def read_version(work: WorkDir) -> Version:
    """The version of the set in a work folder; 1.0.0 where none was ever written.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        return Version.parse(str(json.loads(work.version.read_text(encoding="utf-8"))["version"]))
    except FileNotFoundError:
        return Version()
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f'{work.version}: expected {{"version": "1.0.0"}}; write it, or delete the file') from None


def read_date(work: WorkDir) -> str:
    """The day the version was written, `2026-11-23`; today where it never was."""
    try:
        return str(json.loads(work.version.read_text(encoding="utf-8"))["date"])
    except (OSError, ValueError, KeyError, TypeError):
        return today()


def today() -> str:
    """The day in UTC, as ISO 8601 writes it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def write_version(work: WorkDir, version: Version) -> None:
    """Keeps a version in the work folder, with its day."""
    with written_aside(work.version) as path:
        path.write_text(json.dumps({"version": str(version), "date": today()}) + "\n", encoding="utf-8")


def raise_version(work: WorkDir, part: str) -> Version:
    """Raises the version in the work folder.

    Args:
        work: the work folder.
        part: `major`, `minor` or `patch`.

    Raises:
        ConfigError: there is no such part, or the file is damaged.
    """
    version = read_version(work).raised(part)
    write_version(work, version)
    return version
