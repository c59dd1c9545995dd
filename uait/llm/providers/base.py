"""What providers that are asked over HTTP have in common."""

from __future__ import annotations

from uait.llm.http import ProviderHTTP
from uait.llm.upstream import Timeouts


class HTTPProvider:
    """One account at one address.

    Args:
        name: the first part of `name/model`.
        base_url: what the dialect's paths are put after.
        key: the API key; none where empty.
        timeouts: how long it may take.
    """

    own_paths: tuple[str, ...] = ()
    """What people write at the end of a base URL, and what the dialect's own paths begin with."""

    def __init__(self, name: str, base_url: str, key: str = "", *, timeouts: Timeouts = Timeouts()) -> None:
        self.name = name
        base_url = base_url.rstrip("/")
        for path in self.own_paths:
            base_url = base_url.removesuffix(path)
        self._http = ProviderHTTP(name, base_url, self.headers(key), timeouts)

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        """What goes with every question."""
        return {"authorization": f"Bearer {key}"} if key else {}

    async def aclose(self) -> None:
        await self._http.aclose()
