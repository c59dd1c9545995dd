from __future__ import annotations

import pytest
import trio

from uait.calls.deadline import from_header, remaining, to_header, within
from uait.errors import BadRequest, DeadlineExceeded


async def test_what_remains_is_the_nearest_deadlines(mock_clock):
    assert remaining() is None
    with trio.fail_after(10), trio.move_on_after(4):
        await trio.lowlevel.checkpoint()
        mock_clock.jump(1)
        assert remaining() == 3
        mock_clock.jump(4)
        assert remaining() == 0


@pytest.mark.parametrize(("seconds", "value"), [(1.5, "1500"), (0.0001, "1"), (0, "1")])
def test_the_header_is_whole_milliseconds(seconds, value):
    assert to_header(seconds) == value


def test_a_header_is_read_as_seconds():
    assert from_header("1500") == 1.5


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "soon", "٣", "1" * 13, " 1"])
def test_what_is_no_number_of_milliseconds_is_refused(value):
    with pytest.raises(BadRequest, match="X-Request-Timeout-Ms"):
        from_header(value)


async def test_within_raises_for_its_own_deadline_only(autojump_clock):
    with pytest.raises(DeadlineExceeded, match="too slow"), within(1, "too slow"):
        await trio.sleep(2)
    with trio.move_on_after(1) as outer, within(2, "never said"):
        await trio.sleep(3)
    assert outer.cancelled_caught
    with within(None, "never said"):
        await trio.sleep(1000)
