"""What the orchestrator is asked, and what it answers. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import validators


@attrs.frozen(kw_only=True)
class OrchestrateRequest:
    """The body of `POST /orchestrate`.

    Attributes:
        user_request: what the user wants, in words. Without it, or with nothing but spaces: 400 `MISSING_REQUEST`.
        context: handed to the services. `conversation_id` and `model`, where they are texts, are the chat service's.
        services: names of the services to run; left out or empty, they are chosen by what they declare. A name that nobody has is answered as `skipped`.
        priority: handed to the services; what it means is theirs.
    """

    user_request: str = attrs.field(
        alias="userRequest",
        validator=validators.and_(validators.max_len(100_000), validators.matches_re(r"\S", func=re.search)),
    )
    context: dict[str, Any] | None = None
    services: list[str] | None = attrs.field(default=None, validator=validators.optional(validators.max_len(32)))
    priority: str | int | None = None


@attrs.frozen(kw_only=True)
class Task:
    """What the chosen services are to do."""

    text: str
    context: Mapping[str, Any] = attrs.field(factory=dict)
    priority: str | int | None = None


@attrs.frozen(kw_only=True)
class Candidate:
    """A service that could be run."""

    name: str
    title: str
    intents: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Choice:
    """What became of a candidate.

    Attributes:
        score: 0 to 1.
        matched: the name or phrase that gave the score.
        reason: why it is chosen, or not.
    """

    name: str
    score: float
    chosen: bool
    matched: str | None
    reason: str


class Status(enum.StrEnum):
    COMPLETED = "completed"
    DESCRIBED = "described"
    """It does not take requests of the orchestrator, and was asked what it is instead."""
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"


@attrs.frozen(kw_only=True)
class Outcome:
    """What one service came to.

    Attributes:
        result: its answer, where it is completed or described.
        error: one sentence, where it is not.
        seconds: how long it took.
    """

    name: str
    status: Status
    result: Any = None
    error: str = ""
    seconds: float = 0.0

    @property
    def came_back(self) -> bool:
        return self.status in (Status.COMPLETED, Status.DESCRIBED)

    def as_json(self) -> Any:
        """As it stands under `data.services`."""
        if self.status is Status.COMPLETED:
            return self.result
        if self.status is Status.DESCRIBED:
            return {"status": self.status, "note": self.error, "information": self.result}
        return {"status": self.status, "error": self.error}


class Mode(enum.StrEnum):
    PARALLEL = "parallel"
    SINGLE = "single"
    NONE = "none"


def mode_of(number: int) -> Mode:
    """How that many services are run."""
    return Mode.PARALLEL if number > 1 else Mode.SINGLE if number else Mode.NONE


@attrs.frozen(kw_only=True)
class Progress:
    """One event of a streamed orchestration: what a service came to, as soon as it did."""

    name: str
    status: Status
    result: Any = None
    error: str | None = None
    execution_time: str = attrs.field(alias="executionTime")


@attrs.frozen(kw_only=True)
class Summary:
    services_used: int = attrs.field(alias="servicesUsed")
    execution_time: str = attrs.field(alias="executionTime")
    synthesized: bool


@attrs.frozen(kw_only=True)
class Data:
    """`services`: by name, what each answered, or `{"status": "failed|timed_out|skipped", "error"}`."""

    user_request: str = attrs.field(alias="userRequest")
    services: dict[str, Any]
    synthesis: str
    summary: Summary


@attrs.frozen(kw_only=True)
class Metadata:
    timestamp: str
    request_id: str = attrs.field(alias="requestId")
    execution_mode: Mode = attrs.field(alias="executionMode")


@attrs.frozen(kw_only=True)
class Answer:
    success: bool = True
    data: Data
    metadata: Metadata


@attrs.frozen(kw_only=True)
class Explanation:
    """What would be run, and why. `skipped`: names that the request gives and nobody has."""

    user_request: str = attrs.field(alias="userRequest")
    choices: list[Choice]
    skipped: dict[str, str]
    timeout_seconds: float = attrs.field(alias="timeoutSeconds")


@attrs.frozen(kw_only=True)
class ExplainAnswer:
    success: bool = True
    data: Explanation
    metadata: Metadata


@attrs.frozen(kw_only=True)
class OrchestratorSettings:
    """The section `[orchestrator]`.

    Attributes:
        threshold: the share of a declared phrase that must be in the request.
        most: services run for one request, unless it names them.
        otherwise: services run where the request fits none.
        timeout: seconds for one service.
        reserve: seconds before the request's deadline at which every service must be done, so that there is an answer at all.
    """

    threshold: float = attrs.field(default=0.6, validator=[validators.gt(0), validators.le(1)])
    most: int = attrs.field(default=8, validator=validators.ge(1))
    otherwise: tuple[str, ...] = ("chat",)
    timeout: float = attrs.field(default=60.0, validator=validators.gt(0))
    reserve: float = attrs.field(default=0.2, validator=validators.ge(0))
