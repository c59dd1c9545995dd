"""A process of ours does without what it does not need, and whoever wants it after all has it. Each in an interpreter of its own: modules are imported once."""

from __future__ import annotations

import gc
import linecache
import subprocess
import sys

import pytest

from uait.cli.lean import YOUNG, settled

START = """
import sys
from uait.cli.lean import leave_out_what_is_not_needed
leave_out_what_is_not_needed()
import uait.cli.running, uait.web
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_command_lines_and_servers_of_libraries_are_not_loaded() -> None:
    wanted = (
        "h2",
        "multiprocessing",
        "rich",
        "pygments",
        "hypercorn.protocol",
        "hypercorn.asyncio.run",
        "hypercorn.trio.run",
        "uait.server.hypercorn",
        "bdb",
        "readline",
    )
    assert run(f"print([name for name in {wanted} if name in sys.modules])") == "[]"


@pytest.mark.system
@pytest.mark.shared
@pytest.mark.parametrize(
    "code",
    [
        "import hypercorn.trio; print(hypercorn.trio.serve.__module__)",
        "from hypercorn.trio import worker_serve; print(worker_serve.__module__)",
        "import hypercorn.trio.run; print(hypercorn.trio.__name__)",
        "from uait.server.hypercorn import HypercornConnections; print('hypercorn.trio')",
        "from hypercorn.typing import ConnectionState, HTTPScope; import hypercorn.typing; print(hypercorn.typing.WebsocketScope and 'hypercorn.trio')",
        "import hypercorn.typing, typing; assert hypercorn.typing.Event is not typing.Any; import h2.events; print('hypercorn.trio')",
        "import pdb; pdb.Pdb; import pdb; print(pdb.Pdb.__module__)",
        "import click.testing; print(click.testing.pdb.Pdb.__module__)",
        "import httpx._main; print(httpx._main.main.name and 'hypercorn.trio')",
    ],
)
def test_who_wants_them_has_them(code: str) -> None:
    assert run(code) in ("hypercorn.trio", "hypercorn.trio.run", "uait.cli.lean", "pdb")


def test_what_attrs_writes_is_not_kept() -> None:
    code = """
import linecache, traceback
print([name for name in linecache.cache if "uait.kernel" in name])
try:
    1 / 0
except ZeroDivisionError:
    traceback.print_exc()
"""
    assert run(code) == "[]"
    assert linecache.cache  # in this process nothing is touched


def test_quart_can_serve_by_itself() -> None:
    code = """
import quart.app, quart_trio.app, hypercorn.config, trio
for module in (quart.app, quart_trio.app):
    try:
        module.serve(None)
    except TypeError as error:
        print(error)
"""
    assert run(code).count("missing 1 required positional argument: 'config'") == 2


def test_the_garbage_collector_is_as_before_afterwards() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with settled():
        assert gc.get_threshold()[0] == YOUNG
        assert gc.get_freeze_count() > before[1]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_a_program_that_has_frozen_something_itself_keeps_it() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with settled():
            pass
        assert gc.get_freeze_count() == frozen
    finally:
        gc.unfreeze()
