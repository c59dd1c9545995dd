"""Ports for processes that are told theirs before they start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

# Below what systems hand out by themselves: there, the next connection that anybody opens may take a port that was free a moment ago.
_RANGE = range(15_000, 32_000)
_random = random.SystemRandom()  # workers of one run must not choose alike


def free_ports(count: int) -> list[int]:
    """Ports that were free on both loopback addresses a moment ago, and that nobody is given without asking for them."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = _random.choice(_RANGE)
            try:
                for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                    held.enter_context(socket.create_server((host, port), family=family))
            except OSError:
                continue
            ports.append(port)
    return ports
