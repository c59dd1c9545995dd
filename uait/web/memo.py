"""Remembering what has been derived from a type."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

R = TypeVar("R")


def memo(derive: Callable[[Any], R]) -> Callable[[Any], R]:
    """Call `derive` once for each type. (`lru_cache` itself would have its argument Hashable, which type checkers do not believe of `type[T]`.)"""
    return lru_cache(maxsize=2048)(derive)
