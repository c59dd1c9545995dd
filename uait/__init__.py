"""uait: a self-hosted AI backend that one command starts. `python -m uait` runs it; `uait.serve` embeds it; `@uait.service` extends it.

Layers, from the ground up; an import points down, or sideways within its own folder:

    errors  <  entry_points, settings, server, calls, feeds, storage  <  kernel, web, llm  <  services, cli, testing

Names are imported when they are first used, so that listing plugins costs neither trio nor Quart.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uait.calls.client import ServiceClient as ServiceClient
    from uait.calls.context import Identity as Identity
    from uait.cli import run as run
    from uait.errors import APIError as APIError
    from uait.errors import BadRequest as BadRequest
    from uait.errors import Conflict as Conflict
    from uait.errors import DeadlineExceeded as DeadlineExceeded
    from uait.errors import Forbidden as Forbidden
    from uait.errors import NotFound as NotFound
    from uait.errors import PluginError as PluginError
    from uait.errors import Problem as Problem
    from uait.errors import ServiceFailed as ServiceFailed
    from uait.errors import SettingsError as SettingsError
    from uait.errors import StartError as StartError
    from uait.errors import TooManyRequests as TooManyRequests
    from uait.errors import UaitError as UaitError
    from uait.errors import Unauthorized as Unauthorized
    from uait.errors import Unavailable as Unavailable
    from uait.errors import UpstreamError as UpstreamError
    from uait.errors import ValidationFailed as ValidationFailed
    from uait.feeds import Feed as Feed
    from uait.kernel.host import Host as Host
    from uait.kernel.host import open_host as open_host
    from uait.kernel.host import serve as serve
    from uait.kernel.restart import RestartPolicy as RestartPolicy
    from uait.kernel.service import API_VERSION as API_VERSION
    from uait.kernel.service import Context as Context
    from uait.kernel.service import ServiceSpec as ServiceSpec
    from uait.kernel.service import service as service
    from uait.kernel.status import ServiceStatus as ServiceStatus
    from uait.kernel.status import State as State
    from uait.settings import Limits as Limits
    from uait.settings import Settings as Settings
    from uait.settings import load_settings as load_settings
    from uait.storage import Database as Database
    from uait.web import App as App
    from uait.web import Event as Event
    from uait.web import body as body
    from uait.web import event_stream as event_stream
    from uait.web import identity as identity
    from uait.web import query as query
    from uait.web import structure as structure
    from uait.web import user_id as user_id

_HOME = {
    "uait.calls.client": ("ServiceClient",),
    "uait.calls.context": ("Identity",),
    "uait.cli": ("run",),
    "uait.errors": (
        "APIError",
        "BadRequest",
        "Conflict",
        "DeadlineExceeded",
        "Forbidden",
        "NotFound",
        "PluginError",
        "Problem",
        "ServiceFailed",
        "SettingsError",
        "StartError",
        "TooManyRequests",
        "UaitError",
        "Unauthorized",
        "Unavailable",
        "UpstreamError",
        "ValidationFailed",
    ),
    "uait.feeds": ("Feed",),
    "uait.kernel.host": ("Host", "open_host", "serve"),
    "uait.kernel.restart": ("RestartPolicy",),
    "uait.kernel.service": ("API_VERSION", "Context", "ServiceSpec", "service"),
    "uait.kernel.status": ("ServiceStatus", "State"),
    "uait.settings": ("Limits", "Settings", "load_settings"),
    "uait.storage": ("Database",),
    "uait.web": ("App", "Event", "body", "event_stream", "identity", "query", "structure", "user_id"),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted([*_WHERE, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("uait")
    elif name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
