"""`GET /openapi.json`: what the routes say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uait.web.app import App


def add_openapi_route(app: App) -> None:
    """Give `app` its `/openapi.json`."""
