"""What the client would rather have."""

from __future__ import annotations

from quart import request


def accepts(media_type: str) -> bool:
    """Whether the request's Accept names `media_type` and prefers it to JSON. A missing header, and `*/*`, prefer nothing."""
    accept = request.accept_mimetypes
    wanted = accept.quality(media_type)
    named = any(
        given.lower() == media_type or given.lower() == media_type.partition("/")[0] + "/*" for given, _ in accept
    )
    return named and wanted > 0 and wanted >= accept.quality("application/json")
