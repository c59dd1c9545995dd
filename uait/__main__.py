"""`python -m uait`."""

from __future__ import annotations

from uait.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
