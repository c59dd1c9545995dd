"""What no honest client would send, as data, to be played against anything that speaks HTTP/1.1 and WebSockets in plain text.

    for case in corpus(websocket="/ws"):
        async with dial(port) as wire:
            await play(case, wire)
        ...  # and then an ordinary request on a new connection must be answered

No case may make the server call its app for the path `HIDDEN_PATH`.
"""

from __future__ import annotations

from hostile.corpus.case import HIDDEN_PATH as HIDDEN_PATH
from hostile.corpus.case import Case as Case
from hostile.corpus.case import close_codes as close_codes
from hostile.corpus.case import play as play
from hostile.corpus.case import statuses as statuses
from hostile.corpus.framing import framing
from hostile.corpus.heads import heads
from hostile.corpus.http2 import http2_corpus as http2_corpus
from hostile.corpus.http2 import http2_in_plain_text
from hostile.corpus.lives import lives
from hostile.corpus.smuggling import smuggling
from hostile.corpus.websockets import frames, handshakes


def corpus(*, get: str = "/", post: str = "/echo", websocket: str | None = "/ws") -> tuple[Case, ...]:
    """All cases.

    Args:
        get: a path that answers to GET.
        post: a path that reads a POST's body.
        websocket: a path that accepts WebSockets, or None where there is none.
    """
    cases = [*heads(get), *framing(post), *smuggling(get, post), *lives(get, post), *http2_in_plain_text(get)]
    cases += handshakes(websocket or "/ws")
    if websocket is not None:
        cases += frames(websocket)
    assert len({case.name for case in cases}) == len(cases)
    return tuple(cases)
