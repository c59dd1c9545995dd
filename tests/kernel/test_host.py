"""The host: what it refuses to start with, how it is embedded, what it leaves behind (nothing)."""

from __future__ import annotations

import gc
import os
import socket
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import uait
from uait.errors import SettingsError, StartError
from uait.kernel.host import open_host
from uait.kernel.service import Context, service
from uait.kernel.status import State
from uait.settings import Settings


def settings_for(tmp_path: Path, *names: str, **changes: Any) -> Settings:
    return Settings(data_dir=tmp_path / "data", only=names, grace=1, environ={}, **changes)


async def fetch(address: str, path: str = "/") -> bytes:
    host, _, port = address.removeprefix("http://").rpartition(":")
    stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream])


async def test_it_listens_on_both_loopback_addresses_and_closes_them(host_of: Any, plain: Any) -> None:
    async with host_of(service(name="one")(plain)) as host:
        addresses = host.addresses("one")
        assert [address.rpartition(":")[0] for address in addresses] == ["http://127.0.0.1", "http://[::1]"]
        for address in addresses:
            assert b'{"path": "/x"}' in await fetch(address, "/x")

    for address in addresses:
        with pytest.raises(OSError, match=r"connect|refused"):
            await fetch(address)


async def test_two_hosts_in_one_process(tmp_path: Path, plain: Any, ask: Any) -> None:
    one = service(name="one")(plain)
    async with (
        open_host(settings_for(tmp_path / "a", "one"), [one]) as first,
        open_host(settings_for(tmp_path / "b", "one"), [one]) as second,
    ):
        assert first.addresses("one") != second.addresses("one")
        await first.stop()
        assert await ask(second, "one") == {"path": "/"}


async def test_every_taken_port_is_named_with_its_service_and_how_to_change_it(tmp_path: Path, plain: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as also_taken:
        ports = [taken.getsockname()[1], also_taken.getsockname()[1]]
        specs = [
            service(name="one", port=ports[0], port_variable="ONE_PORT")(plain),
            service(name="two", port=ports[1])(plain),
        ]
        with pytest.raises(StartError) as caught:
            async with open_host(settings_for(tmp_path, "one", "two"), specs):
                pass

    assert [problem.where for problem in caught.value.problems] == [
        f"port {ports[0]} of one",
        f"port {ports[1]} of two",
    ]
    assert "--port one=N" in str(caught.value)
    assert "ONE_PORT" in str(caught.value)


@pytest.mark.parametrize("host", ["nonsense.invalid", "192.0.2.1"])
async def test_an_address_of_another_machine_is_named_once(host: str, tmp_path: Path, plain: Any) -> None:
    specs = [service(name="one")(plain), service(name="two")(plain)]
    with pytest.raises(StartError, match="is not an address of this machine") as caught:
        async with open_host(settings_for(tmp_path, "one", "two", host=host, keys={"me": "x" * 40}), specs):
            pass

    assert [problem.where for problem in caught.value.problems] == [f"host {host!r}"]


async def test_two_services_that_want_one_port_are_both_named(tmp_path: Path, plain: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    specs = [service(name=name, port=port)(plain) for name in ("one", "two")]

    with pytest.raises(StartError, match=f"port {port} of two: is also the port of 'one'"):
        async with open_host(settings_for(tmp_path, "one", "two"), specs):
            pass


async def test_nothing_stays_bound_when_the_start_is_refused(tmp_path: Path, plain: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        specs = [service(name="one", port=port)(plain), service(name="two", port=taken.getsockname()[1])(plain)]
        with pytest.raises(StartError):
            async with open_host(settings_for(tmp_path, "one", "two"), specs):
                pass

    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_a_data_directory_belongs_to_one_host(tmp_path: Path, plain: Any) -> None:
    one = service(name="one")(plain)
    async with open_host(settings_for(tmp_path, "one"), [one]):
        with pytest.raises(StartError, match=f"is in use by process {os.getpid()}"):
            async with open_host(settings_for(tmp_path, "one"), [one]):
                pass

    async with open_host(settings_for(tmp_path, "one"), [one]):
        pass


async def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path, plain: Any) -> None:
    (tmp_path / "data").write_text("a file")

    with pytest.raises(
        StartError, match=r"cannot be used \(there is a file of that name\); choose another with --data-dir"
    ):
        async with open_host(settings_for(tmp_path, "one"), [service(name="one")(plain)]):
            pass


async def test_the_data_directory_is_the_owners_only(tmp_path: Path, host_of: Any, plain: Any) -> None:
    async with host_of(service(name="one")(plain)) as host:
        assert host.settings.data_dir.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
async def test_listening_beyond_this_machine_needs_keys(address: str, tmp_path: Path, plain: Any) -> None:
    with pytest.raises(StartError, match=r"without API keys is refused.*\[keys\]"):
        async with open_host(settings_for(tmp_path, "one", host=address), [service(name="one")(plain)]):
            pass


async def test_every_problem_of_every_section_is_listed(tmp_path: Path, plain: Any) -> None:
    @attrs.frozen
    class Own:
        size: int = 3

    sections = {"one": {"size": "big", "colour": "red"}, "nobody": {"x": 1}}

    with pytest.raises(SettingsError) as caught:
        async with open_host(
            settings_for(tmp_path, "one", sections=sections), [service(name="one", settings=Own)(plain)]
        ):
            pass

    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "size" in text
    assert "colour" in text
    assert "nobody" in text


async def test_unknown_names_broken_services_and_wrong_sections_are_listed_together(tmp_path: Path, plain: Any) -> None:
    settings = Settings(
        data_dir=tmp_path,
        only=("one", "nobody"),
        services=("no_such_module:x",),
        sections={"one": {"colour": "red"}, "onne": {}},
        environ={},
    )

    with pytest.raises(SettingsError) as caught:
        async with open_host(settings, [service(name="one")(plain)]):
            pass

    assert [problem.where for problem in caught.value.problems][:2] == ["--only", "x"]
    text = str(caught.value)
    assert "'onne'" in text
    assert "one.colour is not known" in text
    assert len(caught.value.problems) == 4


async def test_a_service_gets_its_own_settings(host_of: Any, plain_app: Any) -> None:
    @attrs.frozen
    class Own:
        size: int = 3

    seen: list[Any] = []

    @service(settings=Own)
    async def one(ctx: Context) -> Any:
        seen.append(ctx.settings)
        return plain_app

    async with host_of(one, sections={"one": {"size": 5}}):
        pass

    assert seen == [Own(size=5)]


async def test_an_embedder_starts_it_as_a_task_and_cancels_it(tmp_path: Path, plain: Any, autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery:
        host = await nursery.start(uait.serve, settings_for(tmp_path, "one"), [service(name="one")(plain)])
        assert host.status()[0].state is State.READY
        nursery.cancel_scope.cancel(reason="the embedder leaves")

    assert host.status()[0].state is State.STOPPED


async def test_cancelling_the_embedder_drains_within_the_grace_period(tmp_path: Path, autojump_clock: Any) -> None:
    finished: list[str] = []

    @service
    async def slow(ctx: Context) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise RuntimeError("only http")
            await trio.sleep(0.5)
            finished.append("answered")

        return app

    async with trio.open_nursery() as outer:
        with trio.CancelScope() as embedder:
            async with open_host(settings_for(tmp_path, "slow"), [slow]) as host:
                local = await host.local("slow")
                outer.start_soon(local.app, {"type": "http", "path": "/"}, trio.sleep_forever, trio.sleep_forever)
                await trio.sleep(0.1)
                embedder.cancel(reason="the embedder leaves")
                await trio.sleep_forever()

    assert finished == ["answered"]


async def test_serve_returns_when_the_host_is_stopped(tmp_path: Path, plain: Any) -> None:
    async with trio.open_nursery() as nursery:
        host = await nursery.start(uait.serve, settings_for(tmp_path, "one"), [service(name="one")(plain)])
        await host.stop()


async def test_who_has_waited_for_a_stop_can_start_again_at_once(tmp_path: Path, plain: Any) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                host = await nursery.start(uait.serve, settings_for(tmp_path, "one"), [service(name="one")(plain)])
                await host.stop()


async def test_a_cancelled_start_leaves_no_thread_of_a_database(tmp_path: Path, plain_app: Any) -> None:
    @service
    async def stores(ctx: Context) -> Any:
        async with ctx.database([]):
            yield plain_app

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("uait stores")]

    gc.disable()  # it would hide them
    try:
        for number in range(40):
            with trio.move_on_after(number / 4000):
                async with open_host(settings_for(tmp_path / str(number), "stores"), [stores]):
                    await trio.sleep_forever()
        with trio.move_on_after(5):
            while threads():  # one ends a moment after it has answered its last call
                await trio.sleep(0.01)
        assert threads() == []
    finally:
        gc.enable()


async def test_changes_are_never_missed(host_of: Any, plain: Any) -> None:
    async with host_of(service(name="one")(plain)) as host:
        seen = host.status()
        host.request_stop()
        await trio.sleep(0.01)
        states = set()
        while seen[0].state is not State.STOPPED:
            seen = await host.changed(seen)
            states.add(seen[0].state)

    assert State.STOPPED in states


async def test_no_file_stays_open(tmp_path: Path, plain: Any) -> None:
    async def once(number: int) -> None:
        async with open_host(settings_for(tmp_path / str(number), "one"), [service(name="one")(plain)]) as host:
            await fetch(host.addresses("one")[0])

    await once(0)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 6):
        await once(number)

    assert len(os.listdir("/proc/self/fd")) <= before


async def test_the_blocks_own_exception_comes_out_as_it_is(host_of: Any, plain: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with host_of(service(name="one")(plain)):
            raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):  # one group: that of the block's own nursery
        async with host_of(service(name="one")(plain)), trio.open_nursery():
            raise ZeroDivisionError
