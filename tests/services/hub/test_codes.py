"""The close codes are what their tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from uait.services.hub import codes
from uait.services.hub.codes import CloseCode

README = (Path(__file__).parents[3] / "README.md").read_text()


@pytest.mark.parametrize("text", [codes.__doc__, README], ids=["module", "README"])
def test_every_code_is_documented_with_its_reason(text):
    told = dict(re.findall(r"^\| (\d{4}) \|\s*`?([^`|]*)`?\s*\|", text, re.MULTILINE))
    assert told.keys() == {str(int(code)) for code in CloseCode} | {"1009"}
    for code in CloseCode:
        if code is not CloseCode.RESTART:
            assert told[str(int(code))].strip() == code.reason


def test_codes_say_whether_to_come_back():
    assert {code for code in CloseCode if code.reconnect} == {1012, 3005, 3008, 3013, 3014}
    assert all(3000 <= code < 4000 for code in CloseCode if code is not CloseCode.RESTART)
