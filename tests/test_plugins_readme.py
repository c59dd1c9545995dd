"""The snippets of plugins/README.md are run: its service is a module, and its tests are collected here."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

_README = Path(__file__).parent.parent / "plugins" / "README.md"
_BLOCKS = re.findall(r"^```python\n(.*?)^```", _README.read_text(), re.DOTALL | re.MULTILINE)
_SERVICE = next(block for block in _BLOCKS if "MIGRATIONS = " in block)
_TESTS = next(block for block in _BLOCKS if "from notes import notes" in block)

_notes = types.ModuleType("notes")
exec(compile(_SERVICE, "plugins/README.md, notes.py", "exec", dont_inherit=True), vars(_notes))
sys.modules["notes"] = _notes
exec(compile(_TESTS, "plugins/README.md, test_notes.py", "exec", dont_inherit=True))
