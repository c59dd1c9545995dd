"""A client asks another one, and gets its reply, or learns that there will be none."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from uait.services.hub.client import Client
from uait.services.hub.protocol import Message, MessageType, Refused, Reply, Request
from uait.storage.ids import new_id


@attrs.define(eq=False)
class _Pending:
    asker: Client
    ref: str
    asked: set[Client]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    outcome: Message | Refused | None = None


class Requests:
    """All requests that wait for their reply.

    Args:
        most: how many of one client may wait at once.
        longest: seconds that one may wait.
    """

    def __init__(self, *, most: int, longest: float) -> None:
        self._most = most
        self._longest = longest
        self._pending: dict[str, _Pending] = {}
        self._asked: dict[Client, set[_Pending]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def ask(self, asker: Client, request: Request, targets: Sequence[Client]) -> None:
        """Hand a request to all `targets`; the first reply counts.

        Raises:
            Refused: there is nobody to ask, or too much is asked already.
        """
        if asker.requests >= self._most:
            raise Refused("TOO_MANY_REQUESTS", f"At most {self._most} of your requests wait at once.", status=429)
        if not targets:
            raise Refused("NOT_CONNECTED", "Nobody is connected there.", status=404)
        asker.requests += 1
        request_id = new_id()
        pending = self._pending[request_id] = _Pending(asker, request.ref, set(targets))
        encoded = Message(
            type=MessageType.REQUEST,
            id=request_id,
            user_id=asker.user_id,
            content=request.content,
            data=request.data,
        ).encode()
        for target in targets:
            self._asked.setdefault(target, set()).add(pending)
            target.push(encoded)
        seconds = self._longest if request.timeout is None else min(request.timeout, self._longest)
        pending.scope.deadline = trio.current_time() + seconds
        asker.start_soon(self._wait, request_id, pending)

    def reply(self, replier: Client, reply: Reply) -> None:
        """Take a reply.

        Raises:
            Refused: the replier was not asked this, or it is too late.
        """
        pending = self._pending.get(reply.ref)
        if pending is None or replier not in pending.asked or pending.outcome is not None:
            raise Refused("NO_SUCH_REQUEST", "No such request waits for your reply, or not any more.", status=404)
        data = {"ref": pending.ref, "data": reply.data}
        self._end(pending, Message(type=MessageType.REPLY, user_id=replier.user_id, content=reply.content, data=data))

    def gone(self, client: Client) -> None:
        """`client` will not reply any more."""
        for pending in self._asked.pop(client, ()):
            pending.asked.discard(client)
            if not pending.asked and pending.outcome is None:
                self._end(pending, Refused("GONE", "Whom you asked has left.", ref=pending.ref))

    def _end(self, pending: _Pending, outcome: Message | Refused) -> None:
        pending.outcome = outcome
        pending.scope.cancel(reason="the request is answered")

    async def _wait(self, request_id: str, pending: _Pending) -> None:
        try:
            with pending.scope:
                await trio.sleep_forever()
        finally:
            del self._pending[request_id]
            pending.asker.requests -= 1
            for target in pending.asked:
                waiting = self._asked[target]
                waiting.discard(pending)
                if not waiting:
                    del self._asked[target]
        outcome = pending.outcome or Refused("TIMEOUT", "Nobody has replied in time.", status=504, ref=pending.ref)
        pending.asker.tell(outcome.as_message() if isinstance(outcome, Refused) else outcome)
