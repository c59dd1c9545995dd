"""The official SDKs, `sdks.openai` and `sdks.anthropic`, imported by the tests that use them: each process that only collects these tests would take five seconds for it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anthropic as anthropic
    import openai as openai


def __getattr__(name: str) -> Any:
    if name not in ("anthropic", "openai"):
        raise AttributeError(name)
    return import_module(name)
