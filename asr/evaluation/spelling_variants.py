"""British spellings as American ones, by rule and by list, so that a word counts as itself in either."""

from __future__ import annotations

import re

_OUR = ("arb|ard|arm|behavi|bel|cand|clam|col|demean|enam|endeav|fav|ferv|flav|glam|harb|hon|hum|lab|misdemean|neighb|"
        "od|parl|ranc|rig|rum|sav|splend|succ|tum|val|vap|vig")  # fmt: skip
_LL = ("cancel|channel|counsel|dial|duel|enamel|equal|fuel|funnel|grovel|initial|jewel|label|level|libel|marvel|model|"
       "panel|parcel|pedal|pencil|quarrel|refuel|remodel|rival|shovel|signal|snivel|spiral|total|towel|travel|tunnel|"
       "unravel|yodel")  # fmt: skip
_RULES = [
    (re.compile(rf"^({_OUR})our(?=(s|ed|ing|er|ers|able|ably|ite|ites|ful|less|ly|y|hoods?|al|ists?)?$)"), r"\1or"),
    (re.compile(r"^(amphithea|cali|cen|centime|fi|kilome|li|lus|mea|me|milli|millime|mi|sa|sepulch|som|spec|thea)"
                r"([bgt])re(s?)$"), r"\1\2er\3"),
    (re.compile(r"^(cent)red$"), r"\1ered"),
    (re.compile(rf"^({_LL})l(?=(ed|ing|er|ers|ings|ist|ists|ous|ery)$)"), r"\1"),
    (re.compile(r"^([a-z]{2,})is(?=(e|es|ed|ing|er|ers|ation|ations|ational)$)"), r"\1iz"),
    (re.compile(r"^([a-z]{3,})ys(?=(e|es|ed|ing|er|ers)$)"), r"\1yz"),
    (re.compile(r"^(anal|catal|dial|homol|monol|prol|travel)ogue(?=s?$)"), r"\1og"),
    (re.compile(r"^(def|off|lic|pret)ence(?=(s|less|d)?$)"), r"\1ense"),
    (re.compile(r"^(an|h|orthop|p|encyclop|arch)ae"), r"\1e"),
    (re.compile(r"^(f|am|diarrh)?oe(?=[a-z]{3,})"), r"\1e"),
]  # fmt: skip
_WORDS = {
    "ageing": "aging", "artefact": "artifact", "artefacts": "artifacts", "axe": "ax", "carat": "karat",
    "cheque": "check", "cheques": "checks", "chequered": "checkered", "cosy": "cozy", "distil": "distill",
    "doughnut": "donut", "doughnuts": "donuts", "draught": "draft", "enrol": "enroll", "fulfil": "fulfill",
    "fulfilment": "fulfillment", "gaol": "jail", "gramme": "gram", "grammes": "grams", "grey": "gray",
    "greys": "grays", "instal": "install", "instalment": "installment", "instil": "instill", "jewellery": "jewelry",
    "judgement": "judgment", "kerb": "curb", "manoeuvre": "maneuver", "manoeuvres": "maneuvers", "mould": "mold",
    "mouldy": "moldy", "moustache": "mustache", "omelette": "omelet", "omelettes": "omelets", "plough": "plow",
    "ploughed": "plowed", "practise": "practice", "practised": "practiced", "practising": "practicing",
    "programme": "program", "programmes": "programs", "pyjamas": "pajamas", "sceptic": "skeptic",
    "sceptical": "skeptical", "skilful": "skillful", "smoulder": "smolder", "storey": "story", "storeys": "stories",
    "sulphur": "sulfur", "tyre": "tire", "tyres": "tires", "whisky": "whiskey", "wilful": "willful",
    "woollen": "woolen", "yoghurt": "yogurt",
}  # fmt: skip


def american(word: str) -> str:
    """The American spelling of a normalised word; where both sides of a comparison go through it, they meet.

    >>> american("colour"), american("organised"), american("hour")
    ('color', 'organized', 'hour')
    """
    if word in _WORDS:
        return _WORDS[word]
    for rule, instead in _RULES:
        word = rule.sub(instead, word)
    return word
