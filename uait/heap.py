"""Memory that nobody uses: not kept, or back to the system."""

from __future__ import annotations

import sys


def give_back() -> None:
    """What is free between things that are not: the C library keeps it. Takes a few milliseconds, in which everybody waits."""
    if sys.platform != "linux":
        return  # only glibc has `malloc_trim`, and elsewhere there may be no library to ask for it
    import ctypes  # not at the start, for it takes memory itself

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def exact(data: bytes) -> bytes:
    """The same in a piece of memory of its own size, for what is kept: what orjson (3.13) has encoded still holds all the room that it was encoded in, 4 KiB for 30 bytes and 56 KiB for 5000."""
    return bytes(memoryview(data))
