"""pytest loads the plugin in every run of every project where uait is installed: it must cost nothing."""

from __future__ import annotations

import subprocess
import sys


def test_loading_the_plugin_imports_nothing_of_uait_but_itself() -> None:
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport uait.testing.plugin\n"
        "new = set(sys.modules) - before\n"
        "assert {name for name in new if name.startswith('uait')} == {'uait', 'uait.testing', 'uait.testing.plugin'}, new\n"
        "assert not {'trio', 'httpx', 'quart', 'attrs', 'cattrs'} & new, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
