"""Conversations of two friends over a year, made up: each tells in several sessions how things went on, chats in between, and much is said with the same words. Closer to how people write than `_dialogues.py`: turns are long, and questions name the speaker.

What they say stands in `conversations.txt`. `#` begins a topic and `+` a part of it, which comes in a later session than the part before. Lines of X or Y are said, `#tag` at their end makes them evidence; `~` marks what is said about the topic at other times.
A line of one letter is a question: `1` one turn answers it, `t` the same and it asks for a time, `m` several turns, `o` what follows from several, `a` asks of the other speaker what only this one told. `*` is chat. `{slots}` are filled differently in each conversation.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path

import attrs
from _dialogues import Asked, Dialogue, Turn

SLOTS = {
    "ago": "three days ago|two weeks ago|last week|yesterday|on Tuesday|last month",
    "age": "eighty|ninety|eighty five|seventy nine|ninety two",
    "age2": "fifteen|sixteen|fourteen|seventeen",
    "allergen": "celery|peanuts|sesame|shellfish|mustard",
    "amount": "8,000 dollars|12,500 euros|30,000 dollars|4,200 pounds|95,000 euros",
    "animal": "deer|fox|badger|heron|hare|owl",
    "appdoes": "find their glasses|remember their pills|call a taxi|read small print",
    "appliance": "coffee machine|blender|old toaster|mixer",
    "bandname": "Paper Jam|Low Toner|Tray Two",
    "blogname": "Safe Spoon|The Careful Fork|Nothing Hidden",
    "book": "The Long Embrace|Roots Before Wings|Holding On",
    "breed": "greyhound|labrador|beagle|dachshund|poodle",
    "cake": "poppy seed cake|cherry pie|honey cake|carrot cake",
    "camera": "Leica|Minolta|Pentax|Rolleiflex",
    "cardgame": "rummy|canasta|cribbage|poker",
    "clothes": "green trousers|hiking boots|a blue suit|a raincoat",
    "color": "orange|turquoise|yellow|dark green|purple",
    "count": "twelve|eighteen|twenty five|thirty|forty one",
    "country": "Portugal|Scotland|Croatia|Canada|Morocco|Norway|Peru|Vietnam",
    "crop": "pumpkins|tomatoes|sunflowers|beans|strawberries",
    "dreamjob": "fireman|astronaut|vet|baker|detective|pilot",
    "flower": "orchids|tulips|roses|geraniums|daisies",
    "food": "pickles|popcorn|mangoes|fish fingers",
    "friend": "Tess|Omar|Bianca|Joel|Mei|Viktor|Salma|Dev|Ruth|Nils",
    "heirloom": "brooch|pearl necklace|pocket watch|silver bracelet",
    "hours": "1:58|two hours and four minutes|2:11|an hour and fifty minutes",
    "instrument": "bass|ukulele|banjo|keyboard|violin",
    "lake": "Lake Elin|Mirror Lake|the Blackwater reservoir|Goose Pond|Lake Torrent",
    "language": "Swedish|Turkish|Japanese|Greek|Polish",
    "material": "driftwood|bicycle chain|copper wire|walnut",
    "month": "January|February|April|June|July|August|September|October|November",
    "museum": "maritime|textile|railway|natural history|toy",
    "name1": "Ada|Flora|Hugo|Ivy",
    "name2": "Theo|Nell|Oscar|Rose",
    "nickname": "Captain Sunshine|Doctor Giraffe|Aunt Pudding|Boss",
    "number": "three|four|five|seven|nine|eleven|six",
    "object": "stuffed bears|old clocks|ship models|teapots",
    "ordinal": "3rd|8th|14th|21st|27th",
    "pages": "140|212|95|307",
    "park": "Riverside|Hillcrest|Old Mill|Queens|Linden",
    "pet": "Barnaby|Moose|Pretzel|Duchess|Gizmo",
    "place": "Bristol|Lisbon|Denver|Bergen|Toulouse|Cork|Gdansk|Halifax",
    "pool": "city pool|university pool|old baths",
    "project": "annual report|grant application|bridge design|translation",
    "relative": "uncle|aunt|grandfather|cousin|brother",
    "restaurant": "the Golden Pear|Mama Rosa|the Fisherman's Hut|Saffron House",
    "river": "Wye|Danube|Tamar|Loire|Hudson",
    "role": "miller|villain|fairy king|old queen|thief",
    "seed": "fennel|walnuts|sesame|caraway",
    "shopkind": "flower shop|laundromat|bookstore|bike repair shop|record store",
    "shopname": "Crumb and Co|The Early Bird|Daily Rise|Golden Crust",
    "stone": "garnet|moonstone|sapphire|amethyst",
    "street": "Weaver Street|Mill Road|Harbour Lane|Chapel Street|Station Road",
    "subject": "bookkeeping|electrical engineering|graphic design|social work",
    "sweet": "peppermint|toffee|ginger biscuit|marzipan",
    "topic": "the stars|fishing|missing the last train|apple trees|bad coffee",
    "tree": "walnut|cherry|oak|pear",
    "veg": "spinach|lentils|sweet potato|cauliflower",
    "venue": "the town hall|St. Anne's|the Corner Room|the old cinema|the public library",
    "weekday": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday",
    "year": "1943|1971|1958|1966|1984",
}
PEOPLE = (("Dora", "Malcolm"), ("Frida", "Anselm"), ("Wanda", "Chloe"), ("Hector", "Simone"), ("Keiko", "Bruno"), ("Alma", "Tobias"))  # fmt: skip
KINDS = {"1": "one", "t": "time", "m": "many", "o": "open", "a": "other"}


@attrs.frozen
class Topic:
    """Something that one of them tells of: its parts as lines, and what is said about it at other times."""

    parts: list[list[str]]
    aside: list[str]


def _read() -> tuple[list[Topic], list[str]]:
    topics: list[Topic] = []
    chat: list[str] = []
    for line in (Path(__file__).parent / "conversations.txt").read_text().splitlines():
        match line[:2]:
            case "# ":
                topics.append(Topic([], []))
            case "* ":
                chat.append(line[2:])
            case "~ ":
                topics[-1].aside.append(line[2:])
            case "+ ":
                topics[-1].parts.append([line[2:]])
            case _ if line:
                topics[-1].parts[-1].append(line.strip())
    return topics[:-1], chat


TOPICS, CHAT = _read()


def make(seed: int, *, half: int | None = None, sessions: int = 28, chat: int = 9) -> Dialogue:
    """A conversation of its own for each seed. With `half` only the questions on every other topic are asked, from the first (0) or the second (1) on: to choose weights by the one, and look at the other."""
    dice = random.Random(1000 + seed)
    people = PEOPLE[seed % len(PEOPLE)]
    told: list[list[tuple[int, list[str], dict[str, str]]]] = [[] for _ in range(sessions)]
    for number, topic in enumerate(TOPICS):
        owners = list(people) if dice.random() < 0.35 else [dice.choice(people)]
        for owner in owners:
            fixed = {"X": owner, "Y": people[1 - people.index(owner)], "owners": str(len(owners))}
            when = sorted(dice.sample(range(sessions), len(topic.parts)))
            for session, part in zip(when, topic.parts, strict=True):
                told[session].append((number, part, fixed))
            for line in topic.aside:
                told[dice.randrange(sessions)].append((number, [line], fixed))
    day = datetime(2023, 1, 20, 10, 12)
    turns: list[Turn] = []
    questions: list[tuple[int, Asked]] = []
    tags: dict[tuple[int, str, str], str] = {}
    for number, parts in enumerate(told, 1):
        day += timedelta(days=dice.randint(3, 18), minutes=dice.randint(-240, 240))
        date = f"{day.hour % 12 or 12}:{day.minute:02} {'pm' if day.hour >= 12 else 'am'} on {day.day} {day:%B}, {day.year}"
        dice.shuffle(parts)
        who = dice.choice(people)

        def say(who: str, text: str, number: int = number, date: str = date) -> str:
            turns.append(Turn(f"D{number}:{len(turns)}", who, text, f"session_{number}", date))
            return turns[-1].id

        for at, (topic, lines, fixed) in enumerate(parts):
            for _ in range(dice.randint(0, max(1, 2 * chat // len(parts))) if at else 2):
                who = people[1 - people.index(who)]
                say(who, dice.choice(CHAT).replace("{Y}", people[1 - people.index(who)]))
            for line in lines:
                mark, text = line.split(" ", 1)
                if mark in KINDS:
                    text, _, evidence = text.partition(" | ")
                    if mark == "a" and fixed["owners"] == "2":
                        continue
                    named = frozenset(f"{fixed['X']}/{tag}" for tag in evidence.split())
                    questions.append((topic, Asked(_fill(text, dice, fixed), named, KINDS[mark])))
                    if mark == "1" and fixed["owners"] == "1" and dice.random() < 0.25:
                        mistaken = {**fixed, "X": fixed["Y"], "Y": fixed["X"]}
                        questions.append((topic, Asked(_fill(text, dice, mistaken), named, "other")))
                else:
                    text, _, tag = text.partition(" #")
                    who = fixed[mark[0]]
                    told_as = say(who, _fill(text, dice, fixed))
                    if tag:
                        tags[topic, fixed["X"], tag] = told_as
    asked = []
    for topic, each in questions:
        if half is None or topic % 2 == half:
            ids = frozenset(tags[topic, *name.split("/")] for name in each.evidence)  # type: ignore[index]
            asked.append(attrs.evolve(each, evidence=ids))
    return Dialogue(turns, asked)


def _fill(text: str, dice: random.Random, fixed: dict[str, str]) -> str:
    """Fill the slots; within one topic the same slot is always the same."""
    for slot, options in SLOTS.items():
        if f"{{{slot}}}" in text:
            text = text.replace(f"{{{slot}}}", fixed.setdefault(slot, dice.choice(options.split("|"))))
    return text.replace("{X}", fixed["X"]).replace("{Y}", fixed["Y"])
