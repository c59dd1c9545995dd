from __future__ import annotations

import textwrap

import trio
from wire import dial

import uait.server
from uait.server import bind, open_server


def test_every_public_name_is_there_and_documented() -> None:
    for name in uait.server.__all__:
        thing = getattr(uait.server, name)
        assert not isinstance(thing, type) or thing.__doc__, name


async def test_the_example_in_the_docstring_serves() -> None:
    assert uait.server.__doc__ is not None
    example = textwrap.dedent(uait.server.__doc__.partition("\n\n")[2].rpartition("\n\n")[0])
    names = {"trio": trio, "bind": bind, "open_server": open_server}
    exec(compile(example.replace("8000", "0").replace("3600", "0.1"), "example", "exec"), names)
    await names["main"]()  # type: ignore[operator]
    sockets = bind("127.0.0.1", 0)
    async with open_server(names["hello"], sockets), dial(sockets[0].getsockname()[1]) as wire:  # type: ignore[arg-type]
        assert (await wire.ask()).body == b"hello"
    sockets[0].close()
