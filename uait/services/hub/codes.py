"""The close codes, which are a contract with clients: from 3000 to 3499 connect again, from 3500 to 3999 do not.

| code | reason | what happened, and what a client does |
| --- | --- | --- |
| 1009 | | a message over the host's `limits.message_bytes` |
| 1012 | restart; reconnect in N ms | the service stops or starts again: connect again after so long; the `status` message before it says so, too |
| 3005 | expired | the connection is as old as connections get (`lifetime`): connect again |
| 3008 | slow | it did not read what it was sent: connect again, with the last offset |
| 3013 | too many messages | it kept on sending more than `rate`: connect again, and send less |
| 3014 | full | there are as many connections as there may be: connect again later |
| 3501 | bad messages | one message after the other could not be understood |
| 3503 | disconnected | an operator, or the user, has ended it |
| 3504 | too many connections | this user has as many connections as one may have |
| 3505 | too many rooms | it is in as many rooms as a client may be in, and went on asking for more |
"""

from __future__ import annotations

import enum


class CloseCode(enum.IntEnum):
    """See the table above. `reason` is what stands in the close frame."""

    RESTART = 1012
    EXPIRED = 3005
    SLOW = 3008
    TOO_MANY_MESSAGES = 3013
    FULL = 3014
    BAD_MESSAGES = 3501
    DISCONNECTED = 3503
    TOO_MANY_CONNECTIONS = 3504
    TOO_MANY_ROOMS = 3505

    @property
    def reason(self) -> str:
        return self.name.lower().replace("_", " ")

    @property
    def reconnect(self) -> bool:
        """Whether the client is to connect again."""
        return self < 3500
