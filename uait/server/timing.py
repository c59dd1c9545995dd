"""How long a connection is patient at its ends: the same for every class that serves connections. Read at the time of use, so that tests can be quicker."""

LINGER = 1.0
"""Seconds for which what a client still sends is thrown away after our last byte: closing at once would reset the connection, and could cost the client our answer (RFC 9112 section 9.6)."""

LINGER_LEAVING = 0.25
"""The same, while the service leaves."""

FRESH = 0.5
"""Seconds that a new connection may still take to say something when the service begins to leave."""

SHORTLY = 0.05
"""Seconds in which an app that knows that its client has gone may end by itself; then it is cancelled."""

REST_SECONDS = 0.5
REST_BYTES = 256 * 1024
"""How much of a request is still taken in after it has been answered, so that the connection can be used again."""

CLOSING_SECONDS = 1.0
"""How long the client's part of a WebSocket's closing handshake is waited for."""

HANDLING_SECONDS = 5.0
"""How long a WebSocket's app that was told of the disconnect may take to handle that, and what came before, if it does not follow the announcement."""
