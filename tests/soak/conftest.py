"""The real process, as the system tests start it."""

from __future__ import annotations

from system.conftest import start as start
