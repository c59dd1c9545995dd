"""`nox` checks everything that a change must keep: style, types and the quick tests on each interpreter found. `nox --list` shows the rest.

Arguments behind `--` go to pytest: `nox -s tests-3.13 -- tests/settings -x`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nox

# An interpreter that is not installed is skipped, and nox says so. The one that runs nox counts too, so that there is always one.
PYTHONS = sorted({"3.11", "3.12", "3.13", f"3.{sys.version_info.minor}"})
# quart and quart-trio come in two lines, one for 3.11 and 3.12, one from 3.13 on, and they behave differently: one interpreter of each.
BOTH_LINES = ["3.11", "3.13"]

nox.needs_version = ">=2024.4"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False


def pytest(session: nox.Session, *arguments: str) -> None:
    session.install(".[test]")
    # Each worker, and each process that a test starts, would compile everything anew where the environment forbids to keep it.
    environment = {"PYTHONDONTWRITEBYTECODE": ""}
    session.run("python", "-m", "pytest", *arguments, *session.posargs, env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff, its ASYNC rules included, and its format."""
    session.install("ruff")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strict, of uait and of what its users write."""
    session.install("mypy", "pytest", ".")
    session.run("mypy", "--strict")
    session.run("mypy", "--strict", "examples", "plugins")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The quick tests, four at a time: many of them wait for a deadline."""
    pytest(session, "-n", "4")


@nox.session(python=BOTH_LINES)
def system(session: nox.Session) -> None:
    """Real processes and real clients, two at a time."""
    pytest(session, "-n", "2", "-m", "system")


@nox.session(python=BOTH_LINES)
def hostile(session: nox.Session) -> None:
    """What no honest client would send, several at a time: they mostly wait for what the server does not do."""
    pytest(session, "-m", "hostile", "-n", "4")


@nox.session(python=BOTH_LINES[-1])
def autobahn(session: nox.Session) -> None:
    """Autobahn's fuzzing client for WebSockets, which runs under Python 2.7 only. Behind `--`: arguments of tests/server/autobahn.py, such as `--kind hypercorn` or `--exclude '9.*' '12.*' '13.*'`."""
    python2 = shutil.which("python2.7")
    if python2 is None or subprocess.run([python2, "--version"], capture_output=True).returncode != 0:
        session.error(
            "Autobahn's testsuite needs Python 2.7, and there is no python2.7 (pyenv has 2.7.18; PYENV_VERSION=2.7.18:3.13.0 shows both)"
        )
    base = Path(session.create_tmp()).resolve()
    wstest = base / "bin" / "wstest"
    environment = {"PYTHONUSERBASE": str(base)}
    if not wstest.exists():
        # Not `--target`, which breaks the namespace packages of zope.
        pinned = "autobahntestsuite==25.10.1"
        session.run(python2, "-m", "pip", "install", "--quiet", "--user", pinned, external=True, env=environment)
    session.install(".[test]")
    session.run("python", "tests/server/autobahn.py", str(wstest), *session.posargs, env=environment)


@nox.session(python=BOTH_LINES[-1])
def fuzz(session: nox.Session) -> None:
    """A coverage-guided fuzzer on the server's connections, for 60 seconds, or as many as are said behind `--`."""
    session.install(".[test]", "atheris")
    session.run("python", "tests/hostile/fuzz.py", *session.posargs)


@nox.session(python=BOTH_LINES[-1])
def soak(session: nox.Session) -> None:
    """An hour of mixed load, or as many minutes as UAIT_SOAK_MINUTES says: does memory stay, does everything that was started end."""
    pytest(session, "-m", "soak", "-s", "-o", "faulthandler_timeout=0")


@nox.session(python=BOTH_LINES[-1])
def bench(session: nox.Session) -> None:
    """Print the numbers of tests/benchmarks (all, or those named behind `--`), each beside its baseline."""
    # What the servers are measured beside; nothing of uait needs it.
    session.install(".[test]", "uvicorn", "uvloop", "httptools", "starlette", "websockets")
    named = session.posargs or sorted(str(file) for file in Path("tests/benchmarks").glob("[!_]*.py"))
    for file in named:
        session.run("python", file)
