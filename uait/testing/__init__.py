"""For authors of services: the fixtures `run_service` and `run_service_live` (see `uait.testing.plugin`), and a check of the whole contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uait.testing.contract import assert_service_contract as assert_service_contract

__all__ = ["assert_service_contract"]


def __getattr__(name: str) -> Any:
    if name == "assert_service_contract":  # late: pytest imports this package in every run, of any project
        from uait.testing.contract import assert_service_contract

        return assert_service_contract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
