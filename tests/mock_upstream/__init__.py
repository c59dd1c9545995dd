"""A model server over real sockets that speaks the dialects of OpenAI, Anthropic, Gemini and Ollama, and misbehaves on demand.

    async with open_upstream() as upstream:      # upstream.url is the base URL
        ...                                      # model "tokens?count=50&delay=0.01" streams 50 tokens, model "stall" stops in the middle

or as a process of its own, for benchmarks: `python tests/mock_upstream --port 9100`. The scenario is the model's name, its options follow as a query; `scenarios.py` lists them. `GET /mock` counts.
"""

from mock_upstream.server import KINDS as KINDS
from mock_upstream.server import Seen as Seen
from mock_upstream.server import Upstream as Upstream
from mock_upstream.server import open_upstream as open_upstream
