"""Who a request is from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hmac import compare_digest

from uait.calls.context import Identity, current_call
from uait.errors import BadRequest, Unauthorized

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
MAX_USER_ID = 128


def identity() -> Identity:
    """Who the current request is from; `Identity()` in background work."""
    call = current_call()
    return call.identity if call is not None else Identity()


def user_id() -> str:
    """The user whom the current request is from."""
    return identity().user_id


class Authenticator:
    """Tells who is asking, from a request's headers.

    Args:
        keys: user -> key. Without any, the service is in local mode: a user id is taken on trust, and a missing one means `local`.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = tuple((user, key.encode()) for user, key in keys.items())

    @property
    def required(self) -> bool:
        """Whether a key is needed."""
        return bool(self._keys)

    def by_name(self, given: bytes | None) -> Identity:
        """Local mode: take the `X-User-ID` that came.

        Raises:
            BadRequest: it is empty, too long, or not plain text.
        """
        if given is None:
            return _LOCAL
        try:
            name = given.decode().strip()
        except UnicodeDecodeError:
            raise BadRequest("X-User-ID is not UTF-8.") from None
        if not name or len(name) > MAX_USER_ID or _CONTROL.search(name):
            raise BadRequest(f"X-User-ID must be 1 to {MAX_USER_ID} characters without control characters.")
        return Identity(name)

    def by_key(self, authorization: bytes | None, api_key: bytes | None) -> Identity:
        """Find whose key it is. All keys are compared, each in constant time.

        Raises:
            Unauthorized: there is no key, or nobody's.
        """
        given = api_key
        if authorization is not None:
            scheme, _, token = authorization.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                given = token.strip()
        if not given:
            raise Unauthorized()
        found = None
        for user, key in self._keys:
            if compare_digest(key, given):
                found = user
        if found is None:
            raise Unauthorized("This API key is not known.")
        return Identity(found, authenticated=True)


_LOCAL = Identity()
