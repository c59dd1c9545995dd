"""The run file: what is running on a data directory, for `uait status`. Kept by the command line, not by embedded hosts."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import attrs
import trio

from uait.kernel.host import Host
from uait.kernel.status import ServiceStatus

NAME = "uait.run.json"

log = logging.getLogger("uait.cli")


async def keep_run_file(host: Host, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Keep the run file in the host's data directory true until this is cancelled, and remove it then. Started when it is written."""
    file = host.settings.data_dir / NAME
    try:
        seen = host.status()
        _write(file, seen)
        task_status.started()
        while True:
            seen = await host.changed(seen)
            _write(file, seen)
    finally:
        file.unlink(missing_ok=True)


def _write(file: Path, statuses: tuple[ServiceStatus, ...]) -> None:
    content = {"pid": os.getpid(), "services": [attrs.asdict(status) for status in statuses]}
    new = file.with_suffix(".new")
    try:
        new.write_text(json.dumps(content))
        new.replace(file)  # readers never see half of it
    except OSError as error:  # a full disk must not stop the services
        log.warning("cannot write %s, so `uait status` will not be right: %s", file, error)


def read_run_file(data_dir: Path) -> dict[str, Any] | None:
    """What the run file says: `pid`, and `services` as `ServiceStatus` has them. None where there is none.

    A process that was killed leaves it behind: whether somebody is there is for the services to say.
    """
    try:
        content = json.loads((data_dir / NAME).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("services"), list) else None
