"""Which services a request is for: word overlap with what they declare. Pure, and the same every time; no language model is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from uait.services.orchestrator.model import Candidate, Choice

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")

_IGNORED = (
    "a about all also am an and any are as at be been but by can could did do does for from get give had has "
    "have help her here him his how i i'd i'll i'm if in into is it its it's just let let's like make may me "
    "might mine more most my need no not of off on or our out please shall she should show so some something tell than "
    "that the their them then there these they this those to too up us use used using very want was we were "
    "what what's when where which who whom whose why will with would you your"
)
_STOP_WORDS = frozenset(_IGNORED.split())


def words(text: str) -> list[str]:
    """The words of `text` that mean something, cut to their stems, in order. Text of nothing but stop words keeps them all."""
    found = [word.lower() for word in _WORD.findall(text)]
    telling = [word for word in found if word not in _STOP_WORDS]
    return [stem(word) for word in telling or found]


def stem(word: str) -> str:
    """`word` without the commonest English endings, so that "stored", "stores" and "store" are one. Light on purpose: what is left need not be a word."""
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def score(request: str, candidate: Candidate) -> tuple[float, str | None]:
    """How much of what `candidate` declares is in the request.

    Returns:
        1 where the request has its name, else the greatest share of a phrase's words that it has; and that name or phrase.
    """
    asked = set(words(request))
    name = set(words(candidate.name.replace("-", " ")))
    if name and name <= asked:
        return 1.0, candidate.name
    best, phrase = 0.0, None
    for intent in candidate.intents:
        wanted = set(words(intent))
        share = len(wanted & asked) / len(wanted) if wanted else 0.0
        if share > best:
            best, phrase = share, intent
    return round(best, 3), phrase


def choose(
    request: str, candidates: Iterable[Candidate], *, threshold: float, most: int, otherwise: Sequence[str]
) -> list[Choice]:
    """Score all candidates and choose.

    Args:
        threshold: the score from which a candidate is chosen.
        most: how many may be chosen; those with the highest scores are.
        otherwise: chosen where the request fits nobody.

    Returns:
        A choice for every candidate, highest score first, and in the order given where they are equal.
    """
    scored = [(candidate, *score(request, candidate)) for candidate in candidates]
    scored.sort(key=lambda entry: -entry[1])
    fitting = [candidate.name for candidate, points, _ in scored if points >= threshold][:most]
    choices = []
    for candidate, points, phrase in scored:
        if candidate.name in fitting:
            reason = f"the request fits {phrase!r}"
        elif points >= threshold:
            reason = f"fits, but {most} others fit better"
        elif not fitting and candidate.name in otherwise:
            reason = "the request fits no service, and this one answers anything"
        else:
            reason = (
                "nothing that it declares fits" if phrase is None else f"too little of {phrase!r} is in the request"
            )
        chosen = candidate.name in fitting or (not fitting and candidate.name in otherwise)
        choices.append(Choice(name=candidate.name, score=points, chosen=chosen, matched=phrase, reason=reason))
    return choices


def take_named(names: Sequence[str], candidates: Iterable[Candidate]) -> tuple[list[Choice], dict[str, str]]:
    """The services that a request names itself, by name or title; nothing else is considered then.

    Returns:
        A choice for each that exists, and for the names of which there is no service why they are skipped: a wrong name costs the others nothing.
    """
    known = {alias: candidate for candidate in candidates for alias in (candidate.title, candidate.name)}
    choices: dict[str, Choice] = {}
    unknown: dict[str, str] = {}
    for name in names:
        candidate = known.get(name)
        if candidate is None:
            unknown[name] = "There is no such service that can be run."
        else:
            choices[candidate.name] = Choice(
                name=candidate.name, score=1.0, chosen=True, matched=None, reason="the request names it"
            )
    return list(choices.values()), unknown
