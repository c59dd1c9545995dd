"""What only hypercorn's protocols can do, and what is promised about our use of them."""

from __future__ import annotations

import pytest
from serving import KINDS

from uait.server import Speak


@pytest.fixture
def speak() -> Speak:
    return KINDS["hypercorn"]
