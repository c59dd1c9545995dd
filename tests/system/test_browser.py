"""The console in a real browser: Chromium, driven through chromedriver's WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from mock_upstream import open_upstream

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.system,
    pytest.mark.shared,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not both installed"),
]

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


@attrs.frozen
class Browser:
    """A page in a browser: `client` speaks to its WebDriver session."""

    client: httpx.AsyncClient

    async def command(self, method: str, path: str, body: Any = None) -> Any:
        response = await self.client.request(method, path, json=body if method == "POST" else None)
        value = response.json()["value"]
        assert response.status_code == 200, value
        return value

    async def open(self, url: str) -> None:
        await self.command("POST", "/url", {"url": url})

    async def run(self, script: str, *arguments: Any) -> Any:
        """What `script` returns; what it returns as a promise is waited for."""
        return await self.command("POST", "/execute/sync", {"script": script, "args": arguments})

    async def until(self, script: str, *arguments: Any) -> Any:
        """What `script` returns as soon as that is true."""
        with trio.move_on_after(20):
            while not (value := await self.run(script, *arguments)):
                await trio.sleep(0.05)
            return value
        page = await self.run("return document.body.innerText")
        raise AssertionError(f"{script}\n{page}\n{await self.errors()}")

    async def element(self, selector: str) -> str:
        found = await self.command("POST", "/element", {"using": "css selector", "value": selector})
        return str(next(iter(found.values())))

    async def type(self, selector: str, text: str) -> None:
        await self.command("POST", f"/element/{await self.element(selector)}/value", {"text": text})

    async def click(self, selector: str) -> None:
        await self.command("POST", f"/element/{await self.element(selector)}/click", {})

    async def errors(self) -> list[str]:
        """What the console has complained about since it was last asked."""
        return [entry["message"] for entry in await self.command("POST", "/se/log", {"type": "browser"})]


@asynccontextmanager
async def open_browser(folder: Path) -> AsyncIterator[Browser]:
    assert DRIVER is not None
    log = folder / "chromedriver.log"
    with log.open("wb") as output:
        driver = subprocess.Popen(
            [DRIVER, "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # one group with the browser's many processes, which are killed together
        )
    try:
        with trio.fail_after(30):
            while (told := re.search(r"started successfully on port (\d+)", log.read_text())) is None:
                await trio.sleep(0.05)
        root = f"http://127.0.0.1:{told[1]}"
        async with httpx.AsyncClient(base_url=root, timeout=60, trust_env=False) as client:
            options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            answer = (await client.post("/session", json={"capabilities": {"alwaysMatch": wanted}})).json()["value"]
            assert "sessionId" in answer, answer
            client.base_url = f"{root}/session/{answer['sessionId']}"
            yield Browser(client)
            await client.delete("")
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait(10)


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with open_browser(tmp_path) as opened:
        yield opened


CELLS = (
    "return [...document.querySelectorAll('#services tr')].map(line => [...line.cells].map(cell => cell.textContent))"
)
ANSWERS = "return [...document.querySelectorAll('#talk .assistant')].map(answer => answer.textContent)"


async def test_the_console_shows_what_runs_and_chats(start: Any, browser: Browser) -> None:
    async with start() as process:
        await browser.open(process.url("gateway", "/", "localhost"))
        await browser.until("return document.querySelectorAll('#services tr').length >= 5")
        services = {line[0]: line[1:3] for line in await browser.run(CELLS)}
        names = ("chat-service", "memory-service", "orchestration-service", "service-discovery", "websocket-hub")
        assert services == {name: ["healthy", "ready"] for name in names}
        described = "return fetch(document.querySelector('#services a').href).then(answer => answer.json())"
        assert (await browser.run(described))["info"]["title"] == "chat-service"
        assert "healthy" in await browser.until("return document.getElementById('verdict').textContent")
        await browser.until("return document.getElementById('models').textContent.includes('offline/retrieval')")

        await browser.type("#message", "Remember the green umbrella\n")
        await browser.until("return document.querySelector('#talk .note')?.textContent.includes('offline/retrieval')")
        await browser.type("#message", "What about the umbrella?")
        await browser.click("#send")
        await browser.until("return document.querySelectorAll('#talk .note').length === 2")
        first, second = await browser.run(ANSWERS)
        assert "offline" in first
        assert "green umbrella" in second, "the second message went into the first one's conversation"
        assert await browser.errors() == []

        # What goes wrong is said in words.
        await browser.run("document.getElementById('model').add(new Option('gone', 'gone'))")
        await browser.run("document.getElementById('model').value = 'gone'")
        await browser.type("#message", "Hello\n")
        assert "no model 'gone'" in await browser.until("return document.querySelector('#talk .error')?.textContent")


async def test_an_answer_is_shown_while_it_comes_and_can_be_stopped(start: Any, browser: Browser, http: Any) -> None:
    async with open_upstream() as upstream:
        upstream.models = ["stall"]
        async with start(env={"OPENAI_BASE_URL": upstream.url}) as process:
            await browser.open(process.url("gateway", "/", "localhost"))
            await browser.run("document.getElementById('user').value = 'Jürgen 🐈'")
            await browser.type("#message", "Hello\n")
            assert await browser.until("return document.querySelector('#talk .assistant')?.textContent")
            assert upstream.open_requests == 1
            await browser.click("#stop")
            assert await browser.until("return document.querySelector('#talk .error')?.textContent") == "stopped"
            assert await browser.until("return !document.getElementById('send').disabled")
            await upstream.until(lambda server: server.open_requests == 0)
            # The next message goes on in the same conversation, which its user finds by other ways, too.
            await browser.type("#message", "And then?\n")
            assert await browser.until("return document.querySelectorAll('#talk .assistant')[1]?.textContent")
            await browser.click("#stop")
            assert await browser.until("return !document.getElementById('send').disabled")
            assert await browser.errors() == []
            async with http() as client:
                url = process.url("gateway", "/api/v1/conversations")
                found = await client.get(url, headers={"X-User-ID": "Jürgen 🐈".encode()})
            assert [each["title"] for each in found.json()["conversations"]] == ["Hello"]


async def test_who_has_a_key_gives_it_in_the_console(start: Any, browser: Browser) -> None:
    key = "k" * 40
    async with start(env={"UAIT_KEYS_ANN": key}) as process:
        await browser.open(process.url("gateway", "/", "localhost"))
        refused = await browser.until("return document.querySelector('#models .error')?.textContent")
        assert "API key" in refused
        await browser.type("#key", key + "\ue004")  # tab: it is complete
        await browser.until("return document.getElementById('models').textContent.includes('offline/retrieval')")
        await browser.type("#message", "Hello\n")
        await browser.until("return document.querySelector('#talk .note')")


TALK = """
const [url, sent] = arguments;
return new Promise((resolve, reject) => {
  const socket = new WebSocket(url), seen = [];
  socket.onopen = () => sent.forEach(message => socket.send(JSON.stringify(message)));
  socket.onmessage = event => { seen.push(JSON.parse(event.data)); if (seen.at(-1).type === "chat") socket.close(1000); };
  socket.onclose = event => resolve({code: event.code, seen});
  setTimeout(() => reject(new Error("nothing for 10 s: " + JSON.stringify(seen))), 10000);
});
"""


async def test_a_page_s_websocket_works_from_here_and_not_from_elsewhere(start: Any, browser: Browser) -> None:
    async with start() as process:
        url = process.url("gateway", "/ws?user_id=ann", "localhost", "ws")
        await browser.open(process.url("gateway", "/", "localhost"))
        sent = [
            {"type": "join", "data": {"room": "kitchen"}},
            {"type": "chat", "room": "kitchen", "content": "good morning"},
        ]
        told = await browser.run(TALK, url, sent)
        assert told["seen"][0]["content"] == "Welcome to the WebSocket hub"
        assert (told["seen"][-1]["user_id"], told["seen"][-1]["content"]) == ("ann", "good morning")
        assert told["code"] == 1000
        assert await browser.errors() == []

        await browser.open("data:text/html,elsewhere")  # its origin is `null`
        refused = await browser.run(TALK, url, sent)
        assert refused == {"code": 1006, "seen": []}
        assert process.output().count("hub: WEBSOCKET") == 1
