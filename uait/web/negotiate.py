"""What the client would rather have."""

from __future__ import annotations

from quart import request


def accepts(media_type: str) -> bool:
    """Whether the request's Accept names `media_type` and prefers it to JSON. A missing header, and `*/*`, prefer nothing."""
    family = media_type.partition("/")[0]
    if family not in request.headers.get("Accept", "").lower():
        return False  # what most clients send is not worth being taken apart
    accept = request.accept_mimetypes
    wanted = accept.quality(media_type)
    named = any(given.lower() == media_type or given.lower() == family + "/*" for given, _ in accept)
    return named and wanted > 0 and wanted >= accept.quality("application/json")
