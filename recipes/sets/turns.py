"""Turns that answer a question: what is asked, what is listed, what is said, who is meant."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from asr.text import normalize
from recipes.sets.names import Names

REQUESTS = ("call someone", "call a friend", "send a message", "phone home", "who is online", "add someone to the call")
OFFERS_OF_THINGS = (
    "Do you mean {0} or {1}?", "Did you mean {0}, or {1}?", "{0} or {1}?", "I found {0} and {1}. Which one?",
    "Which one, {0} or {1}?", "Sorry, was that {0} or {1}?", "Okay. {0} or {1}?", "Just to confirm, {0} or {1}?",
    "For {0}, say one. For {1}, say two.", "There are two: {0} and {1}.", "I heard {0}, or was it {1}?",
)  # fmt: skip
OFFERS = (
    *OFFERS_OF_THINGS, "There are two: {0} and {1}. Who would you like?", "I found two contacts. {0}, or {1}?",
    "Would you like to speak to {0} or to {1}?", "Here is what I found: {0}, {1}. Whom shall I dial?",
    "You have {0} and {1} in your contacts. Which should I call?",
)  # fmt: skip
WHICH = (
    "Which {0}?",
    "Which {0} do you mean?",
    "You have more than one {0}. Which one?",
    "{0} who?",
    "What's {0}'s last name?",
)
OPEN = ("Who do you want to call?", "To whom?", "Say a name.", "Who would you like to reach?", "Which contact?")
CONFIRM = ("Did you say {0}?", "Calling {0}, right?", "I heard {0}. Is that correct?", "{0}, yes?")
ELSEWHERE = (
    "Meinst du {0} oder {1}?", "Ich habe {0} und {1} gefunden. Welchen Kontakt meinst du?", "¿Quieres decir {0} o {1}?",
    "Tengo dos: {0} y {1}. ¿A quién llamo?", "Voulez-vous dire {0} ou {1} ?", "Bedoel je {0} of {1}?",
    "Intendi {0} o {1}?",
)  # fmt: skip
"""The offer by assistants that speak German, Spanish, French, Dutch and Italian."""
CARRIERS = (
    "{}", "{}", "{}", "{}", "{} please", "I mean {}", "no, {}", "call {}", "the answer is {}", "I meant {}", "um {}",
    "it's {}", "that would be {}", "I said {}", "{} thanks", "yes, {}", "I'd like {} please", "let's go with {}",
)  # fmt: skip
BESIDE = (
    "cancel", "never mind", "stop", "what time is it", "turn the lights off", "yes", "no", "play some music",
    "set a timer for ten minutes", "how is the weather tomorrow", "neither of them", "what did you say", "go back",
    "none of these", "forget it", "say that again", "someone else", "I don't know", "hold on a second", "thank you",
)  # fmt: skip
ORDINALS = (
    ("the first one", 0), ("the second one", 1), ("the second", 1), ("the first", 0), ("the last one", -1),
    ("number two", 1), ("number one", 0), ("the top one", 0), ("the other one", 1), ("the third one", 2),
)  # fmt: skip
TITLES = (
    ("Dr.", "doctor"), ("Mr.", "mister"), ("Mrs.", "misses"), ("Prof.", "professor"), ("Ms.", "miz"),
    ("Sgt.", "sergeant"), ("Rev.", "reverend"), ("Capt.", "captain"), ("Aunt", "aunt"), ("Uncle", "uncle"),
)  # fmt: skip
"""As they are written, and as a synthesiser is to say them."""
LISTS = ("random", "near", "family", "mixed")
SIZES = (10, 100, 1000)


@dataclass(frozen=True)
class Turn:
    """question: "" where none is known. entries: what is listed. spoken: as it is given to a synthesiser; text: its
    words. target: the entry that is meant, None where none is. signal: what kind of entries they are."""

    question: str
    entries: tuple[str, ...]
    spoken: str
    text: str
    target: str | None
    signal: str = "contacts"


Maker = Callable[[], Turn]


def makers(names: Names, rng: random.Random) -> dict[str, Maker]:
    """A maker of turns for each kind of them."""
    turns: dict[str, Maker] = {
        "two full names": lambda: _namesakes(names, rng, OFFERS),
        "question alone": lambda: _namesakes(names, rng, OFFERS, listed=False),
        "entries alone": lambda: _namesakes(names, rng, ("",)),
        "which Sam": lambda: _which(names, rng),
        "question in another language": lambda: _namesakes(names, rng, ELSEWHERE),
        "surnames asked": lambda: _surnames_asked(names, rng),
        "two persons": lambda: _two_persons(names, rng),
        "two surnames": lambda: _two(rng, names.surname(rng, 2)),
        "two given names": lambda: _two(rng, names.given_names(rng, 2)),
        "two surnames that sound alike": lambda: _two(rng, _alike(names, rng)),
        "two things": lambda: _two_things(names, rng),
        "titles": lambda: _titles(names, rng),
        "junior or senior": lambda: _generations(names, rng),
        "nicknames": lambda: _nicknames(names, rng),
        "three or four offered": lambda: _several(names, rng),
        "did you say": lambda: _did_you_say(names, rng),
        "ordinals": lambda: _ordinals(names, rng),
        "two among fifty": lambda: _among(names, rng, "random"),
        "two among fifty, sound-alikes": lambda: _among(names, rng, "near"),
        "given name of a list": lambda: _given_name(names, rng),
        "beside the point": lambda: _beside(names, rng),
    }
    turns |= {f"list of {size}, {make}": partial(_listed, names, rng, make, size) for size in SIZES for make in LISTS}
    return turns | {f"not listed, {make}": partial(_not_listed, names, rng, make) for make in LISTS}


def _turn(question: str, entries: Sequence[str], spoken: str, target: str | None) -> Turn:
    return Turn(question, tuple(entries), spoken, normalize(spoken), target)


def _said(rng: random.Random, text: str) -> str:
    return rng.choice(CARRIERS).format(text)


def _namesakes(names: Names, rng: random.Random, questions: Sequence[str], *, listed: bool = True) -> Turn:
    """Two people of one given name; the surname is the answer, or the whole name."""
    entries, surnames = _of_one_given_name(names, rng)
    at = rng.randrange(2)
    answer = rng.choice((surnames[at], surnames[at], entries[at]))
    question = rng.choice(questions).format(*entries)
    return _turn(question, entries if listed else [], _said(rng, answer), entries[at])


def _of_one_given_name(names: Names, rng: random.Random) -> tuple[list[str], list[str]]:
    """Two full names, and their surnames."""
    (given,), surnames = names.given_names(rng, 1), names.surname(rng, 2)
    return [f"{given} {surname}" for surname in surnames], surnames


def _which(names: Names, rng: random.Random) -> Turn:
    """The question has the given name alone."""
    entries, surnames = _of_one_given_name(names, rng)
    at, given = rng.randrange(2), entries[0].split()[0]
    return _turn(rng.choice(WHICH).format(given), entries, _said(rng, surnames[at]), entries[at])


def _surnames_asked(names: Names, rng: random.Random) -> Turn:
    """The question has the surnames alone, the list the full names."""
    entries, surnames = _of_one_given_name(names, rng)
    at = rng.randrange(2)
    return _turn(rng.choice(OFFERS).format(*surnames), entries, _said(rng, surnames[at]), entries[at])


def _two_persons(names: Names, rng: random.Random) -> Turn:
    entries, at = [names.full(rng), names.full(rng)], rng.randrange(2)
    given, surname = entries[at].split()
    alone = [part for part in (given, surname) if part not in entries[1 - at].split()]
    return _turn(
        rng.choice(OFFERS).format(*entries), entries, _said(rng, rng.choice((*alone, entries[at]))), entries[at]
    )


def _two(rng: random.Random, entries: Sequence[str]) -> Turn:
    at = rng.randrange(2)
    return _turn(rng.choice(OFFERS).format(*entries), entries, _said(rng, entries[at]), entries[at])


def _two_things(names: Names, rng: random.Random) -> Turn:
    """Two places, titles or devices of one sort."""
    entries, at = rng.sample(rng.choice(names.things), 2), rng.randrange(2)
    question = rng.choice(OFFERS_OF_THINGS).format(*entries)
    return replace(_turn(question, entries, _said(rng, entries[at]), entries[at]), signal="screen")


def _alike(names: Names, rng: random.Random) -> tuple[str, str]:
    """Two surnames, one of which sounds nearly as the other."""
    while True:
        (surname,) = names.surname(rng, 1)
        if near := names.sounds.near(surname, names.all_surnames[:4000], 3):
            return surname, rng.choice(near)


def _titles(names: Names, rng: random.Random) -> Turn:
    (surname,), pair, at = names.surname(rng, 1), rng.sample(TITLES, 2), rng.randrange(2)
    entries, carrier = [f"{title} {surname}" for title, _ in pair], rng.choice(CARRIERS)
    spoken = carrier.format(f"{pair[at][1]} {surname}")
    return replace(_turn(rng.choice(OFFERS).format(*entries), entries, spoken, entries[at]),
                   text=normalize(carrier.format(entries[at])))  # fmt: skip


def _generations(names: Names, rng: random.Random) -> Turn:
    name, at = names.full(rng), rng.randrange(2)
    entries, word = [f"{name} Jr.", f"{name} Sr."], ("junior", "senior")[at]
    answer = rng.choice((word, f"{name.split()[1]} {word}", f"{name} {word}"))
    return _turn(rng.choice(OFFERS).format(*entries), entries, _said(rng, answer), entries[at])


def _nicknames(names: Names, rng: random.Random) -> Turn:
    """The full given name is offered or listed, the nickname said."""
    given, other = rng.sample(sorted(names.nicknames), 2)
    surname = names.surname(rng, 2)
    entries = [f"{given} {surname[0]}", f"{other} {surname[1]}"]
    nickname = rng.choice(names.nicknames[given])
    answer = rng.choice((nickname, nickname, f"{nickname} {surname[0]}"))
    rng.shuffle(entries)
    question = rng.choice((*OFFERS, *OPEN)).format(*entries)
    return _turn(question, entries, _said(rng, answer), f"{given} {surname[0]}")


def _several(names: Names, rng: random.Random) -> Turn:
    """Three or four people, in the order of a list that is read out."""
    count, (given,) = rng.choice((3, 4)), names.given_names(rng, 1)
    surnames = rng.sample(names.surnames[:400], count)
    entries, at = [f"{given} {surname}" for surname in surnames], rng.randrange(count)
    listed = f"{', '.join(entries[:-1])} {rng.choice(('and', 'or'))} {entries[-1]}"
    question = rng.choice(("I found {0}: {1}. Which one?", "{1}?", "{0} matches. {1}. Pick one.", "Choose from {1}."))
    return _turn(
        question.format(count, listed), entries, _said(rng, rng.choice((surnames[at], entries[at]))), entries[at]
    )


def _did_you_say(names: Names, rng: random.Random) -> Turn:
    """One is asked about, rightly or not; the answer is yes, or the name of another."""
    entries = [names.full(rng), names.full(rng)]
    question = rng.choice(CONFIRM).format(entries[0])
    if rng.random() < 0.3:
        return _turn(
            question, entries, rng.choice(("yes", "yes please", "that's right", "correct", "yeah")), entries[0]
        )
    answer = rng.choice(("no, {}", "no, I said {}", "{}", "I meant {}", "no {} please")).format(entries[1])
    return _turn(question, entries, answer, entries[1])


def _ordinals(names: Names, rng: random.Random) -> Turn:
    count = rng.choice((2, 3))
    entries = [names.full(rng) for _ in range(count)]
    spoken, at = rng.choice([(text, place) for text, place in ORDINALS if place < count])
    question = "Which one: {}?".format(", ".join(entries)) if count > 2 else rng.choice(OFFERS).format(*entries)
    return _turn(question, entries, spoken, entries[at])


def _among(names: Names, rng: random.Random, make: str) -> Turn:
    """Two are offered, and more are in the contacts."""
    offered, surnames = _of_one_given_name(names, rng)
    at = rng.randrange(2)
    entries = list(dict.fromkeys([*offered, *names.others(rng, make, offered[at], 48)]))
    rng.shuffle(entries)
    return _turn(rng.choice(OFFERS).format(*offered), entries, _said(rng, surnames[at]), offered[at])


def _given_name(names: Names, rng: random.Random) -> Turn:
    """The given name alone, which one of ten entries has."""
    target = names.full(rng)
    given = target.split()[0]
    others = [name for name in names.others(rng, "random", target, 9) if name.split()[0] != given]
    entries = rng.sample([target, *others], len(others) + 1)
    return _turn(rng.choice(OPEN), entries, _said(rng, given), target)


def _listed(names: Names, rng: random.Random, make: str, size: int) -> Turn:
    target = names.full(rng)
    entries = [target, *names.others(rng, make, target, size - 1)]
    rng.shuffle(entries)
    return _turn(rng.choice(OPEN), entries, _said(rng, target), target)


def _not_listed(names: Names, rng: random.Random, make: str) -> Turn:
    """Who is meant is not in the list, of which make it is; family: many have the surname."""
    said = names.full(rng)
    return _turn(rng.choice(OPEN), names.others(rng, make, said, rng.choice(SIZES)), _said(rng, said), None)


def _beside(names: Names, rng: random.Random) -> Turn:
    entries, _ = _of_one_given_name(names, rng)
    return _turn(rng.choice(OFFERS).format(*entries), entries, rng.choice(BESIDE), None)
