"""Which offers of permessage-deflate (RFC 7692) are agreed to."""

from __future__ import annotations

import pytest

from uait.server.messages import without_context_takeover


@pytest.mark.parametrize(
    ("offers", "count"),
    [
        ([], 0),
        (["permessage-deflate"], 1),
        (["permessage-deflate; server_max_window_bits=10; client_max_window_bits"], 1),
        (["permessage-deflate; client_max_window_bits", "permessage-deflate"], 1),
        (["permessage-deflate; server_max_window_bits=8"], 0),
        (["permessage-deflate; client_max_window_bits=abc"], 0),
        (["permessage-deflate; client_max_window_bits=999999999999999999999"], 0),
        (["permessage-deflate; server_max_window_bits"], 0),
        (["x-webkit-deflate-frame", "permessage-bzip2"], 0),
        (["permessage-deflate; unknown"], 0),
    ],
)
def test_an_offer_of_compression_that_is_not_understood_is_left_out(offers: list[str], count: int) -> None:
    assert len(without_context_takeover(offers)) == count
