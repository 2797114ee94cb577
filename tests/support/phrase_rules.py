"""What texts gain by phrases, by the rules of `asr.decoding.phrase_graph`: by example, and read off the words."""

from __future__ import annotations

from hypothesis import strategies as st

TABLE = [
    # phrases, text, what it gains
    ({"meg": 3}, "", 0),
    ({"meg": 3}, "meg", 3),
    ({"meg": 3}, "call meg please", 3),
    ({"meg": 3}, "megan", 0),  # a word's end is wanted
    ({"meg": 3}, "omeg", 0),  # and its start
    ({"meg": 3}, "me", 0),  # unfinished
    ({"meg": -2}, "call meg", -2),
    ({"meg bauer": 5}, "meg", 0),
    ({"meg bauer": 5}, "call meg bauer", 5),
    ({"meg bauer": 5}, "meg jones", 0),
    ({"meg bauer": 5}, "meg meg bauer", 5),
    ({"meg": 2, "meg bauer": 5}, "meg bauer", 5),  # the longest, once
    ({"meg": 2, "meg bauer": 5}, "meg bauers", 2),  # what it began with stands
    ({"meg": 2, "meg bauer": 5}, "meg jones", 2),
    ({"meg": 2, "bauer": 3}, "meg bauer", 5),  # one behind the other
    ({"call meg": 2, "meg bauer": 5}, "call meg bauer", 2),  # the first from the left, though the other weighs more
    ({"call meg now": 2, "meg bauer": 5}, "call meg bauer", 5),  # the first was never finished
    ({"call meg now": 2, "meg": 3}, "call meg bauer", 3),
    ({"no": 2}, "no no no no", 2),  # a run is one match
    ({"no": 2}, "no yes no", 4),  # two are two
    ({"no": 2, "no way": 3}, "no no way", 2),  # a run's last is not another's first
    ({"no": 2, "no way": 3}, "no way no", 5),
    ({"no": 2, "no no": 3}, "no no no no no", 5),  # the longest, and the run of another behind it
    ({"meg bauer": 5}, "meg bauer meg bauer meg", 5),
    ({"meg": 2, "jack": 3}, "meg jack meg", 7),
]


def gained(weights: dict[str, float], text: str) -> float:
    """The rules, read off the words."""
    words, at, total, last = text.split(), 0, 0.0, ""
    while at < len(words):
        begun = [p for p in weights if words[at : at + len(p.split())] == p.split()]
        begun = [p for p in begun if not last or p == last or not f"{p} ".startswith(f"{last} ")]
        longest = max(begun, key=len, default="")
        total += weights[longest] if longest and longest != last else 0.0
        last, at = longest, at + max(1, len(longest.split()))
    return total


vocabularies = st.sampled_from([["a", "b"], ["a", "ab", "b"], ["no", "now", "n", "way"], ["meg", "me", "megs", "s"]])
