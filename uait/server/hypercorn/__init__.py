"""Connections by hypercorn's protocol classes: HTTP/1.1 and WebSockets in plain text and over TLS, HTTP/2 over TLS where the client asks for it (ALPN).

What hypercorn does is parsing and the states of each protocol. What is ours: reading, writing and waiting (bounded, cancellable), the calls of the app, the checks on requests, the errors. hypercorn's own
server is not used, nor is anything of it changed for others in the process.
"""

from uait.server.hypercorn.connection import HypercornConnections as HypercornConnections
