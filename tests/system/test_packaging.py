"""What users install: a small tree, complete, in which a plugin of somebody else's works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent
PLUGINS = ("uait-wordcount", "uait-command")
TIMEOUT = 600


def run(*command: str | Path, cwd: Path, home: Path) -> str:
    """Run a command with an empty home; gives its output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("UAIT_", "PYTHON"))}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(*arguments: str | Path, into: Path, home: Path) -> str:
    """Run our own pip on an environment: one of its own would take longer to install than half of what it then installs."""
    return run(sys.executable, "-m", "pip", "--python", into / "python", *arguments, cwd=home, home=home)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, so that building leaves nothing in the tree."""
    source = tmp_path_factory.mktemp("source") / "uait"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules", "tests", "build", "dist")
    )
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    """uait, built."""
    built = tmp_path_factory.mktemp("built")
    pip_wheel = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, source)
    run(*pip_wheel, cwd=source, home=home)
    (found,) = built.glob("uait-*.whl")
    return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, wheel: Path, home: Path) -> Path:
    """An environment with uait and nothing else; gives its `bin`."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent, home=home)
    pip("install", "--quiet", wheel, into=folder / "bin", home=home)
    return folder / "bin"


@pytest.fixture(scope="module")
def with_plugins(clean: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, and the example plugins with what their tests need; gives the folder in which they are."""
    folder = tmp_path_factory.mktemp("plugins")
    for name in PLUGINS:
        shutil.copytree(ROOT / "plugins" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    pip("install", "--quiet", *(f"{folder / name}[test]" for name in PLUGINS), into=clean, home=home)
    return folder


def test_a_running_uait_needs_fewer_than_40_packages(clean: Path, home: Path) -> None:
    names = {each["name"].lower() for each in json.loads(pip("list", "--format=json", into=clean, home=home))}

    assert "uait" in names
    assert len(names) < 40, sorted(names)


def test_the_wheel_has_everything_but_tests(wheel: Path, source: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        str(file.relative_to(source))
        for file in (source / "uait").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    assert ours <= names
    assert "uait/py.typed" in names
    assert not any(name.startswith(("tests/", "plugins/", "examples/")) for name in names)


def test_every_module_can_be_imported_without_the_test_tools(clean: Path, home: Path) -> None:
    code = (
        "import importlib, pkgutil, uait\n"
        "for module in pkgutil.walk_packages(uait.__path__, 'uait.'):\n"
        "    if module.name not in ('uait.__main__', 'uait.testing.plugin'):\n"
        "        importlib.import_module(module.name)\n"
        "for name in uait.__all__:\n"
        "    getattr(uait, name)\n"
    )
    run(clean / "python", "-W", "error", "-c", code, cwd=home, home=home)


def test_its_command_and_its_module_are_the_same(clean: Path, home: Path) -> None:
    assert run(clean / "uait", "--version", cwd=home, home=home) == run(
        clean / "python", "-m", "uait", "--version", cwd=home, home=home
    )


@pytest.mark.parametrize("name", PLUGINS)
def test_the_plugins_own_tests_pass_against_it(clean: Path, with_plugins: Path, home: Path, name: str) -> None:
    output = run(clean / "python", "-m", "pytest", "-p", "no:cacheprovider", cwd=with_plugins / name, home=home)

    assert re.search(r"\d+ passed", output)


def test_the_plugins_are_listed_with_their_distributions(clean: Path, with_plugins: Path, home: Path) -> None:
    listed = {each["name"]: each for each in json.loads(run(clean / "uait", "plugins", "--json", cwd=home, home=home))}

    assert listed["wordcount"]["origin"] == "uait-wordcount 1.0"
    assert listed["wordcount"]["state"] == "enabled"
    assert listed["wordcount"]["port"] == 8707
    assert (listed["command"]["origin"], listed["command"]["state"]) == ("uait-command 1.0", "enabled")
    assert "found by COMMAND_MODEL" in run(clean / "uait", "doctor", "provider:command", cwd=home, home=home)


@pytest.fixture
def urls(clean: Path, with_plugins: Path, home: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The addresses of a running uait with the plugins in it."""
    names = ("gateway", "discovery", "orchestrator", "chat", "memory", "hub", "wordcount")
    ports = [part for name in names for part in ("--port", f"{name}=0")]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [clean / "uait", "--data-dir", tmp_path / "data", *ports],
            cwd=tmp_path,
            env={"HOME": str(home), "PATH": os.environ["PATH"], "COMMAND_MODEL": "tr a-z A-Z"},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        found = {}
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
            if match := re.match(r"  (\S+) +(http\S+)", line):
                found[match[1]] = match[2]
        assert found.keys() == set(names), log.read_text()
        yield found
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_provider_is_found_by_its_variable_and_answers(urls: dict[str, str]) -> None:
    with httpx.Client(trust_env=False, timeout=30) as client:
        listed = client.get(f"{urls['gateway']}/api/v1/models").json()
        assert "command/tr" in [model["id"] for model in listed["models"]]

        body = {"model": "command/tr", "messages": [{"role": "user", "content": "hello"}]}
        answer = client.post(f"{urls['gateway']}/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "HELLO"


def test_the_plugin_has_its_place_everywhere(urls: dict[str, str]) -> None:
    with httpx.Client(trust_env=False, timeout=30) as client:
        counted = client.post(f"{urls['gateway']}/api/v1/wordcount/count", json={"text": "count these four words"})
        assert (counted.status_code, counted.json()) == (200, {"words": 4})

        assert "wordcount" in client.get(f"{urls['discovery']}/services").text
        assert "wordcount" in client.get(f"{urls['gateway']}/health").text

        asked = client.post(
            f"{urls['orchestrator']}/api/v1/orchestrate",
            json={"userRequest": "How long is this text? Count the words."},
        )
        assert asked.status_code == 200
        assert "wordcount" in asked.json()["data"]["services"]
