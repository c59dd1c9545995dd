"""From a word to its stem, so that "went", "goes" and "going" meet. Pure.

Latin words go through Porter's algorithm (M. F. Porter, An algorithm for suffix stripping, 1980), after the English forms that no rule derives; Cyrillic ones lose their commonest endings; all others stay.
"""

from __future__ import annotations

from functools import lru_cache

LONGEST = 40
"""Longer words are no words of a language: they stay as they are."""

_IRREGULAR_FORMS = """
be am is are was were been being|have has had having|do does did done doing|go went gone goes|get got gotten|make made|take took taken|
see saw seen|come came|give gave given|find found|think thought|tell told|become became|leave left|feel felt|bring brought|begin began begun|
keep kept|hold held|write wrote written|stand stood|hear heard|mean meant|meet met|run ran|pay paid|sit sat|speak spoke spoken|lead led|
grow grew grown|lose lost|fall fell fallen|send sent|build built|understand understood|draw drew drawn|break broke broken|spend spent|
rise rose risen|drive drove driven|buy bought|wear wore worn|choose chose chosen|eat ate eaten|sing sang sung|swim swam swum|fly flew flown|
sell sold|teach taught|catch caught|fight fought|seek sought|sleep slept|win won|throw threw thrown|ride rode ridden|forget forgot forgotten|
drink drank drunk|know knew known|say said|shake shook shaken|steal stole stolen|hide hid hidden|bite bit bitten|lend lent|feed fed|
shoot shot|sink sank sunk|stick stuck|strike struck|sweep swept|swear swore sworn|tear tore torn|wake woke woken|weave wove woven|lay laid|
child children|man men|woman women|person people|foot feet|tooth teeth|mouse mice|goose geese|wife wives|knife knives|
half halves|shelf shelves|wolf wolves|loaf loaves|thief thieves|good better best|bad worse worst|mum mom mommy mummy mama|dad daddy papa|
grandma granny grandmother|grandpa grandad granddad grandfather|tv television|photo photograph pic|bike bicycle|phone telephone smartphone|
fridge refrigerator|gym gymnasium|exam examination|ad advert advertisement|lab laboratory|movie film|vacation holiday|apartment flat|
"""
_IRREGULAR: dict[str, str] = {
    form: group.split()[0]
    for group in _IRREGULAR_FORMS.replace("\n", "").split("|")
    for form in group.split()
    if group.split()
}
_WHOLE = frozenset(["this", "his", "news", "during", "morning", "evening", "always", "perhaps"])
"""Words that only look as if they had an ending."""

_CYRILLIC_ENDINGS = sorted(
    [
        "иями",
        "ями",
        "ами",
        "ого",
        "его",
        "ому",
        "ему",
        "ыми",
        "ими",
        "ией",
        "ией",
        "иях",
        "ях",
        "ах",
        "ов",
        "ев",
        "ей",
        "ой",
        "ий",
        "ый",
        "ая",
        "яя",
        "ое",
        "ее",
        "ую",
        "юю",
        "ам",
        "ям",
        "ом",
        "ем",
        "ы",
        "и",
        "а",
        "я",
        "о",
        "е",
        "у",
        "ю",
        "ь",
        "ала",
        "ила",
        "али",
        "или",
        "ал",
        "ил",
        "ать",
        "ить",
        "ять",
        "еть",
        "ешь",
        "ишь",
        "ет",
        "ит",
        "ют",
        "ут",
        "ат",
        "ят",
        "ся",
    ],
    key=len,
    reverse=True,
)

_VOWELS = frozenset("aeiou")


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The stem of a folded word (see `uait.services.memory.words`)."""
    if len(word) < 3 or len(word) > LONGEST:
        return _IRREGULAR.get(word, word)
    if word.isascii():
        if not word.isalpha() or word in _WHOLE:
            return word
        return _porter(_IRREGULAR.get(word, word))
    if "\u0400" <= word[0] <= "\u04ff":
        for ending in _CYRILLIC_ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                return word[: -len(ending)]
        return word
    return word


def _consonant(word: str, at: int) -> bool:
    letter = word[at]
    if letter in _VOWELS:
        return False
    return letter != "y" or at == 0 or not _consonant(word, at - 1)


def _measure(part: str) -> int:
    """How often a vowel is followed by a consonant."""
    count, before = 0, False
    for at in range(len(part)):
        vowel = not _consonant(part, at)
        count += before and not vowel
        before = vowel
    return count


def _has_vowel(part: str) -> bool:
    return any(not _consonant(part, at) for at in range(len(part)))


def _ends_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _consonant(word, len(word) - 1)


def _ends_short(word: str) -> bool:
    return (
        len(word) > 2
        and _consonant(word, len(word) - 3)
        and not _consonant(word, len(word) - 2)
        and _consonant(word, len(word) - 1)
        and word[-1] not in "wxy"
    )


_STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("abli", "able"), ("alli", "al"),
    ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"),
    ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
)  # fmt: skip
_STEP_3 = (("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""))
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize",
)  # fmt: skip


def _porter(word: str) -> str:
    word = _plurals(word)
    word = _past_and_progressive(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _replace_longest(word, _STEP_2)
    word = _replace_longest(word, _STEP_3)
    for ending in sorted((each for each in _STEP_4 if word.endswith(each)), key=len, reverse=True)[:1]:
        rest = word[: -len(ending)]
        if _measure(rest) > 1 and (ending != "ion" or rest.endswith(("s", "t"))):
            word = rest
    if word.endswith("e"):
        rest = word[:-1]
        measure = _measure(rest)
        if measure > 1 or (measure == 1 and not _ends_short(rest)):
            word = rest
    if word.endswith("ll") and _measure(word) > 1:
        word = word[:-1]
    return word


def _plurals(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def _past_and_progressive(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        if word.endswith(ending) and _has_vowel(word[: -len(ending)]):
            word = word[: -len(ending)]
            if word.endswith(("at", "bl", "iz")):
                return word + "e"
            if _ends_double(word) and word[-1] not in "lsz":
                return word[:-1]
            if _measure(word) == 1 and _ends_short(word):
                return word + "e"
            return word
    return word


def _replace_longest(word: str, endings: tuple[tuple[str, str], ...]) -> str:
    fitting = [pair for pair in endings if word.endswith(pair[0])]
    if not fitting:
        return word
    ending, instead = max(fitting, key=lambda pair: len(pair[0]))
    rest = word[: -len(ending)]
    return rest + instead if _measure(rest) > 0 else word
