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


WHOLE = (
    "_ssl",
    "asyncio.sslproto",
    "hypercorn.config",
    "hypercorn.trio",
    "hypercorn.trio.run",
    "pdb",
    "prometheus_client.exposition",
    "werkzeug.serving",
)
"""Where it comes from in the end."""


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
        "_ssl",
        "http.server",
        "wsgiref",
    )
    assert run(f"print([name for name in {wanted} if name in sys.modules])") == "[]"


WANTED = (
    "import hypercorn.trio; print(hypercorn.trio.serve.__module__)",
    "from hypercorn.trio import worker_serve; print(worker_serve.__module__)",
    "import hypercorn.trio.run; print(hypercorn.trio.__name__)",
    "from uait.server.hypercorn import HypercornConnections; print('hypercorn.trio')",
    "from hypercorn.typing import ConnectionState, HTTPScope; import hypercorn.typing; print(hypercorn.typing.WebsocketScope and 'hypercorn.trio')",
    "import hypercorn.typing, typing; assert hypercorn.typing.Event is not typing.Any; import h2.events; print('hypercorn.trio')",
    "import pdb; pdb.Pdb; import pdb; print(pdb.Pdb.__module__)",
    "import click.testing; print(click.testing.pdb.Pdb.__module__)",
    "import httpx._main; print(httpx._main.main.name and 'hypercorn.trio')",
    "import ssl, trio; ssl.create_default_context(); import _ssl; print(trio._ssl._stdlib_ssl is ssl and _ssl.__name__)",
    "from ssl import *; print(issubclass(SSLError, OSError) and '_ssl')",
    "import ssl; print('SSLContext' in dir(ssl) and '_ssl')",
    "import httpx; httpx.Client(); import http.client; http.client.HTTPSConnection('localhost'); print('_ssl')",
    "import asyncio; print(asyncio.sslproto.SSLProtocol.__module__)",
    "import prometheus_client; prometheus_client.Gauge; print(prometheus_client.exposition.generate_latest.__module__)",
    "import prometheus_client; print(prometheus_client.exposition.generate_latest.__module__)",
    "from prometheus_client import CONTENT_TYPE_LATEST, MetricsHandler; print(CONTENT_TYPE_LATEST and MetricsHandler.__module__)",
    "from prometheus_client import *; print(generate_latest.__module__)",
    "from hypercorn import Config; print(Config.from_mapping(bind=['a']).bind == ['a'] and Config().__module__)",
    "from hypercorn.config import Config\nclass Mine(Config): pass\nprint(isinstance(Mine(), Config) and issubclass(Mine, Config) and Mine.__mro__[1].__module__)",
    "from hypercorn.config import Config; print((Config | None).__args__[0] is (None | Config).__args__[1] and (None | Config).__args__[1].__module__)",
    "from werkzeug import run_simple; print(run_simple.__module__)",
    "import werkzeug.serving; print(werkzeug.serving.is_running_from_reloader() or werkzeug.serving.BaseWSGIServer.__module__)",
    # Sixteen threads at once: one loads it, fifteen wait.
    "import ssl; from concurrent.futures import ThreadPoolExecutor as P; print(len(set(P(16).map(lambda _: id(ssl.SSLContext), range(16)))) == 1 and '_ssl')",
)
"""Each prints the name of a module where what it wanted comes from."""


@pytest.mark.system
@pytest.mark.shared
def test_who_wants_them_has_them() -> None:
    # Each in a process of its own, which is a copy of one that has started: starting takes half a second.
    code = f"""
import os
for number, code in enumerate({WANTED!r}):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        print(number, end=" ")
        exec(code)
        break
    os.waitpid(child, 0)
"""
    said = dict(line.split(" ", 1) for line in run(code).splitlines())
    assert {code: said.get(str(number)) in WHOLE for number, code in enumerate(WANTED)} == dict.fromkeys(WANTED, True)


@pytest.mark.system
@pytest.mark.shared
def test_what_cannot_be_loaded_says_so_each_time() -> None:
    code = """
import sys
sys.modules["_ssl"] = None
import ssl
for _ in range(2):
    try:
        ssl.SSLContext
    except ImportError as error:
        print(error.name)
del sys.modules["_ssl"]
print(ssl.SSLContext.__name__)
"""
    assert run(code).split() == ["_ssl", "_ssl", "SSLContext"]


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
        assert gc.get_freeze_count() > frozen - 100  # one or the other of them may have gone
    finally:
        gc.unfreeze()
