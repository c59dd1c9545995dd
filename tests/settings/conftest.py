from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a settings file, its first line being line 1."""

    def write(text: str) -> Path:
        file = tmp_path / "uait.toml"
        file.write_text(text.removeprefix("\n"))
        return file

    return write
