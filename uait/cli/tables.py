"""Plain text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as text, columns aligned, two spaces before each."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("".join(f"  {cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
