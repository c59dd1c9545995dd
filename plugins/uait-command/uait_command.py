"""Models behind a program of this machine: each question starts it, the conversation is its standard input, and what it prints is the answer, as it prints it."""

import codecs
import shlex
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import trio

from uait import Unavailable, UpstreamError
from uait.llm import (
    Capability,
    Chunk,
    Embeddings,
    GenerateRequest,
    Message,
    Model,
    ProviderKind,
    ProviderSettings,
    Timeouts,
    check_capabilities,
    unsupported,
)

KILL_TIMEOUT = 2.0
WHY = 500
"""Characters of what a program says on standard error that are passed on when it fails."""


class CommandProvider:
    """One program, which is one model.

    Args:
        name: the first part of `name/model`.
        command: the program and its arguments.
        timeouts: how long it may take to begin, to go on, and altogether.
    """

    capabilities = frozenset({Capability.CHAT, Capability.STREAMING})

    def __init__(self, name: str, command: list[str], timeouts: Timeouts) -> None:
        self.name = name
        self.model = Path(command[0]).name
        self._command = command
        self._timeouts = timeouts

    async def models(self) -> Sequence[Model]:
        await trio.lowlevel.checkpoint()
        return (Model(self.model),)

    @asynccontextmanager
    async def stream(self, request: GenerateRequest) -> AsyncIterator[AsyncIterator[Chunk]]:
        check_capabilities(self, request)
        # No nursery is held while the answer is read: that may be done, and ended, by other tasks. So what goes in is a file, not a pipe that has to be fed.
        with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as errors:
            question.write(prompt(request.turns).encode())
            question.seek(0)
            try:
                process = await trio.lowlevel.open_process(
                    self._command, stdin=question, stdout=subprocess.PIPE, stderr=errors
                )
            except OSError as error:
                raise Unavailable(f"The program of the provider {self.name!r} cannot be started.") from error
            assert process.stdout is not None
            try:
                total = request.total or self._timeouts.total
                yield Printed(self.name, process, process.stdout, errors, self._timeouts, total)
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + KILL_TIMEOUT):
                    process.kill()
                    await process.stdout.aclose()
                    await process.wait()

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        raise unsupported(self.name, "cannot make embeddings")

    async def aclose(self) -> None:
        """Nothing is open between questions."""
        await trio.lowlevel.checkpoint()


class Printed(AsyncIterator[Chunk]):
    """What a program prints, as it comes."""

    def __init__(
        self,
        provider: str,
        process: trio.Process,
        output: trio.abc.ReceiveStream,
        errors: IO[bytes],
        timeouts: Timeouts,
        total: float,
    ) -> None:
        self._provider = provider
        self._process = process
        self._output = output
        self._errors = errors
        self._idle = timeouts.idle
        self._total = trio.current_time() + total
        self._next = trio.current_time() + timeouts.first_token
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._over = False

    async def __anext__(self) -> Chunk:
        while not self._over:
            with trio.CancelScope(deadline=min(self._next, self._total)) as scope:
                data = await self._output.receive_some()
                self._over = not data
                code = await self._process.wait() if self._over else 0
            if scope.cancelled_caught:
                raise UpstreamError(f"The program of the provider {self._provider!r} did not go on in time.")
            if code:
                raise UpstreamError(f"The program of the provider {self._provider!r} failed: {self._why() or code}")
            self._next = trio.current_time() + self._idle
            text = self._decode(data, final=self._over)
            if text or self._over:
                return Chunk(text, finish="stop" if self._over else None)
        raise StopAsyncIteration

    def _why(self) -> str:
        self._errors.seek(0)
        return " ".join(self._errors.read(4 * WHY).decode("utf-8", "replace").split())[:WHY]


def prompt(turns: Sequence[Message]) -> str:
    """A conversation as text: a single message as it is, several with who says them."""
    if len(turns) == 1:
        return turns[0].text
    return "".join(f"{turn.role.capitalize()}: {turn.text}\n\n" for turn in turns) + "Assistant: "


def make(name: str, settings: ProviderSettings, key: str, timeouts: Timeouts) -> CommandProvider:
    """A provider from its settings: `options.command`, a list, or one text as a shell would split it."""
    command = settings.options.get("command", "")
    return CommandProvider(name, shlex.split(command) if isinstance(command, str) else list(command), timeouts)


kind = ProviderKind(make=make, variables={"command": "COMMAND_MODEL"})
