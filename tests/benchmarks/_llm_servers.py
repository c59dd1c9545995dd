"""The gateways that are measured beside each other: how each is installed, started and asked. Linux only.

LiteLLM's proxy comes from PyPI into an environment of its own, Portkey's gateway from npm; both stay in the user's cache, where `rm -r` makes the next run install the newest.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TypeAlias

import attrs
import platformdirs
from _process import free_ports, resident, running, used
from _serve import SERVER_CORE

CACHE = platformdirs.user_cache_path("uait-benchmarks", appauthor=False)
INSTALLING = 900
STARTING = 240

INSTANT = "tokens?count=5"
PACED = "paced?count={count}&interval={interval:.6f}"


Start: TypeAlias = tuple[list[str], dict[str, str], str]
"""A command, its environment, and the path that answers when it is well."""


class Unavailable(Exception):
    """A gateway cannot be measured here; says why."""


@attrs.frozen
class Upstreams:
    """Ports of the model servers behind: one answers at once, the other sends each chunk by itself."""

    instant: int
    paced: int

    def url(self, model: str) -> str:
        """The base URL of the one that has `model`."""
        return f"http://127.0.0.1:{self.paced if model.startswith('paced') else self.instant}/v1"


@attrs.frozen
class Gateway:
    """One that runs, or the upstream itself.

    Attributes:
        started: seconds from the command to its saying that it is well.
    """

    name: str
    pid: int
    port: int
    started: float
    upstreams: Upstreams

    def request(self, model: str, *, stream: bool) -> bytes:
        """A question to `model`, as this gateway wants it."""
        fields = {"Host": "localhost", "Content-Type": "application/json", "Authorization": "Bearer sk-bench"}
        if self.name == "uait":
            model = f"{'local' if model.startswith('paced') else 'openai'}/{model}"
        elif self.name == "Portkey":
            fields |= {"x-portkey-provider": "openai", "x-portkey-custom-host": self.upstreams.url(model)}
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        data = json.dumps(body).encode()
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: {len(data)}\r\n\r\n".encode() + data

    def processes(self) -> list[int]:
        """Its processes, those that it has started included."""
        found = [self.pid]
        for pid in found:
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found

    def memory(self) -> float:
        """MiB of all its processes."""
        return sum(map(resident, self.processes()))

    def used(self) -> float:
        """Seconds of processor time of all its processes."""
        return sum(map(used, self.processes()))


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside the block runs on that core, where the system can do so."""
    before = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def install(name: str) -> str:
    """Install it where it is not yet, and say which it is.

    Raises:
        Unavailable: it cannot be installed.
    """
    if name == "uait":
        return f"{installed_version('uait')}, CPython {sys.version.split()[0]}"
    folder = CACHE / name.lower()
    stamp = folder / "version"
    if not stamp.exists():
        print(f"installing {name} into {folder} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)  # what was interrupted
        folder.mkdir(parents=True)
        try:
            stamp.write_text({"LiteLLM": install_litellm, "Portkey": install_portkey}[name](folder))
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None)
            raise Unavailable(f"{said.strip()[-300:] if said else error}") from error
    return stamp.read_text()


def install_litellm(folder: Path) -> str:
    python = str(folder / "bin" / "python")
    quietly([sys.executable, "-m", "venv", str(folder)])
    quietly([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "litellm[proxy]"])
    found = quietly([python, "-c", "from importlib.metadata import version; print(version('litellm'))"])
    return f"{found}, CPython {sys.version.split()[0]}"


def install_portkey(folder: Path) -> str:
    # With what it resolves to by itself, every stream ends in a 500: it changes headers that a later @hono/node-server gives as they came, immutable.
    overrides = {"@hono/node-server": "1.13.8"}
    wanted = {"dependencies": {"@portkey-ai/gateway": "latest"}, "overrides": overrides}
    (folder / "package.json").write_text(json.dumps(wanted))
    quietly(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)])
    manifest = json.loads((folder / "node_modules/@portkey-ai/gateway/package.json").read_text())
    return f"{manifest['version']}, node {quietly(['node', '--version'])}"


def quietly(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALLING).stdout.strip()


@contextmanager
def gateway(name: str, upstreams: Upstreams, models: list[str]) -> Iterator[Gateway]:
    """Run an installed one on the servers' core.

    Raises:
        Unavailable: it does not start.
    """
    with tempfile.TemporaryDirectory() as directory:
        if name == "uait":
            environment = {
                "OPENAI_API_KEY": "sk-bench",
                "OPENAI_BASE_URL": upstreams.url(INSTANT),
                "LOCAL_LLM_ENDPOINT": upstreams.url(PACED),
            }
            with ExitStack() as stack:
                with on_core(SERVER_CORE):
                    host, ports, seconds = stack.enter_context(running(directory, **environment))
                yield Gateway(name, host.pid, ports["gateway"], seconds, upstreams)
            return
        (port,) = free_ports(1)
        make = {"LiteLLM": litellm, "Portkey": portkey}[name]
        command, environment, path = make(port, Path(directory), upstreams, models)
        with open(Path(directory) / "log", "w+") as log:
            begun = time.perf_counter()
            with on_core(SERVER_CORE):
                process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
            try:
                while not well(port, path):
                    if process.poll() is not None or time.perf_counter() - begun > STARTING:
                        raise Unavailable(f"did not start: {Path(log.name).read_text()[-600:]}")
                    time.sleep(0.002)
                yield Gateway(name, process.pid, port, time.perf_counter() - begun, upstreams)
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)


def litellm(port: int, directory: Path, upstreams: Upstreams, models: list[str]) -> Start:
    """As its documents advise for production: one worker, no debugging, nothing fetched from elsewhere."""
    entries = [
        {
            "model_name": model,
            "litellm_params": {"model": f"openai/{model}", "api_base": upstreams.url(model), "api_key": "sk-bench"},
        }
        for model in models
    ]
    config = directory / "config.yaml"
    config.write_text(json.dumps({"model_list": entries, "litellm_settings": {"telemetry": False}}))
    command = [str(CACHE / "litellm/bin/litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    environment = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # nobody checks a key here
    return command, environment, "/health/readiness"


def portkey(port: int, directory: Path, upstreams: Upstreams, models: list[str]) -> Start:
    script = CACHE / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    return ["node", str(script), f"--port={port}", "--headless"], {"NODE_ENV": "production"}, "/"


def well(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return b" 200 " in sock.recv(65536)[:16]
    except OSError:
        return False
