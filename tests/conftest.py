from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")

TOGETHER = {
    "tests/system/test_packaging.py": "fresh environments",
    "tests/system/test_section_1.py": "documented ports",
    "tests/services/chat/test_every_dialect.py": "official SDKs",
    "tests/services/chat/test_sdks.py": "official SDKs",
}
"""Files whose tests belong to one worker: each other one would install everything anew, want the same ports, or import for seconds, too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--share",
        action="store_true",
        help="of the tests marked `shared`, run one half on Python 3.13 and later and the other half before: for whoever runs both",
    )


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out one test after the other, and what belongs together as a whole. xdist's own way for that, `--dist loadgroup`, does nothing under pytest 9.2 (pytest-xdist issue 1386)."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER.get(_file(nodeid), nodeid)

    return Together(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # What takes long begins first: what is short fills the gaps that it leaves at the end.
    items.sort(key=lambda item: (_file(item.nodeid) not in TOGETHER, not item.get_closest_marker("system")))
    if not config.getoption("--share"):
        return
    shared = [item for item in items if item.get_closest_marker("shared") is not None]
    elsewhere = set(shared[sys.version_info >= (3, 13) :: 2])
    config.hook.pytest_deselected(items=[item for item in items if item in elsewhere])
    items[:] = [item for item in items if item not in elsewhere]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import what `-m` leaves out anyway: the clients of the quick tests alone take seconds, in each worker."""
    wanted = re.fullmatch(r"(\w+)(?: or (\w+))?", config.option.markexpr)
    if wanted is None or not collection_path.name.startswith("test_") or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if any(f"mark.{name}" in text for name in wanted.groups() if name) else True


@pytest.fixture(scope="session", autouse=True)
def few_authorities(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[None]:
    """One authority to trust in place of all the world's, which take 50 ms to read for every client: the quick tests, which start nobody that asks the world, would spend a tenth of their time on them."""
    if not pytestconfig.option.markexpr.startswith("not "):
        yield
        return
    file = tmp_path_factory.mktemp("authorities") / "one.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture
def rings() -> Iterator[Callable[..., set[str]]]:
    """`rings("uait")`: which classes of these packages have left objects, since it was asked last, that only the garbage collector could free. Nothing but reference counting frees anything meanwhile."""

    def found(*packages: str) -> set[str]:
        gc.collect()
        kinds = {f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.garbage}
        gc.garbage.clear()
        return {kind for kind in kinds if kind.partition(".")[0] in packages}

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
