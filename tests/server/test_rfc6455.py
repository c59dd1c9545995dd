"""RFC 6455 to the letter, where many values keep one rule. Single breaches are in tests/hostile/corpus/websockets.py."""

from __future__ import annotations

import struct

import pytest
import trio
from echo import Echo
from serving import Running, Serve
from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame

ALLOWED = [*range(1000, 1004), *range(1007, 1012), 3000, 3001, 3999, 4000, 4999]
LATER = [1012, 1013]  # registered with IANA after the RFC; 1014, too, but not every library knows it
FORBIDDEN = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 32767, 65535]


async def answer_to_close(running: Running, code: int) -> int:
    async with running.dial() as wire:
        await wire.open_websocket()
        await wire.send(close_frame(code))
        return await wire.close_code()


async def test_each_close_code_is_answered_as_section_7_4_has_it(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running:
        for code in ALLOWED + LATER:
            assert await answer_to_close(running, code) == code, code
        for code in FORBIDDEN:
            assert await answer_to_close(running, code) == 1002, code


async def test_each_reserved_opcode_and_bit_fails_the_connection(serve: Serve, echo: Echo) -> None:
    wrong = [frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)]
    wrong += [frame(opcode, b"x", rsv=rsv) for opcode in (TEXT, BINARY, PING, PONG) for rsv in range(1, 8)]
    wrong += [frame(opcode, b"x", mask=False) for opcode in (TEXT, BINARY, PING, PONG, CONTINUATION)]
    wrong += [frame(opcode, b"\3\xe8", fin=False) for opcode in (CLOSE, PING, PONG)]
    wrong += [frame(opcode, b"\3\xe8" + b"x" * 124) for opcode in (CLOSE, PING, PONG)]
    async with serve(echo) as running:
        for data in wrong:
            async with running.dial() as wire:
                await wire.open_websocket()
                await wire.send(data)
                assert await wire.close_code() == 1002, data
                assert await wire.rest() == b""
        await running.settled()
        assert [message["code"] for message in echo.received] == [1002] * len(wrong)


async def test_a_character_may_be_cut_anywhere(serve: Serve, echo: Echo) -> None:
    text = "κόσμε-\U0001f600-ñ"
    data = text.encode()
    async with serve(echo) as running, running.dial() as wire:
        await wire.open_websocket()
        for first in range(len(data) + 1):
            for second in (first, min(first + 1, len(data)), len(data)):
                pieces = (data[:first], data[first:second], data[second:])
                await wire.send(
                    frame(TEXT, pieces[0], fin=False),
                    frame(CONTINUATION, pieces[1], fin=False),
                    frame(CONTINUATION, pieces[2]),
                )
                assert await wire.frame() == (TEXT, data)
    assert {message.get("text") for message in echo.received[:-1]} == {text}


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 200_000])
async def test_each_form_of_length_goes_both_ways(serve: Serve, echo: Echo, size: int) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.open_websocket()
        payload = bytes(i % 251 for i in range(size))
        await wire.send(frame(BINARY, payload))
        assert await wire.frame() == (BINARY, payload)


async def test_frames_may_be_cut_into_segments_anywhere(serve: Serve, echo: Echo) -> None:
    data = frame(TEXT, b"abc", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"x" * 130)
    async with serve(echo) as running, running.dial() as wire:
        await wire.open_websocket()
        for end in range(len(data) + 1):
            await wire.send(data[:end])
            await trio.sleep(0.001)
            await wire.send(data[end:])
            assert await wire.frame() == (PONG, b"p")
            assert await wire.frame() == (TEXT, b"abc" + b"x" * 130)


async def test_a_ping_is_answered_with_its_own_payload_also_in_the_middle_of_a_message(
    serve: Serve, echo: Echo
) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.open_websocket()
        await wire.send(frame(BINARY, b"a", fin=False))
        for payload in (b"", b"x", bytes(125)):
            await wire.send(frame(PING, payload), frame(PONG, b"unasked"))
            assert await wire.frame() == (PONG, payload)
        await wire.send(frame(CONTINUATION, b"b"))
        assert await wire.frame() == (BINARY, b"ab")


async def test_nothing_is_taken_in_after_the_clients_close(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.open_websocket()
        await wire.send(close_frame(1000), frame(PING, b"late"), frame(TEXT, b"late"))
        assert await wire.frame() == (CLOSE, struct.pack("!H", 1000))
        assert await wire.rest() == b""
        await running.settled()
    assert [message["type"] for message in echo.received] == ["websocket.disconnect"]


async def test_what_the_server_sends_is_not_masked(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.open_websocket()
        await wire.send(frame(TEXT, b"x"))
        assert await wire.exactly(3) == b"\x81\x01x"
        await wire.send(close_frame())
        assert await wire.exactly(2) == b"\x88\x02"
