"""Transcripts as Whisper would write them: the original's text with its wrong words mended."""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein

from asr.evaluation.wer import align, count
from asr.second_pass.written_candidates import DIGITS, as_signs
from asr.text import normalize


def mend(written: str, transcript: str) -> str | None:
    """The written text with those words replaced that the transcript has otherwise; None where it says the transcript.

    >>> mend("Call Mark Harkary.", "call mark harker")
    'Call Mark Harker.'
    >>> mend("A, B, 37", "a b three seven")
    >>> mend("The race, CKW 40", "erase c k c w fourteen")
    'Erase C-K-C-W fourteen'
    """
    if count(align(transcript, written)).total == 0:
        return None
    words = written.split()
    said = [(part, i) for i, word in enumerate(words) for part in normalize(word).split()]
    wanted = transcript.split()
    kept: list[int | None] = [None] * len(wanted)
    """The written word that each word of the transcript is kept as."""
    like: list[int | None] = [None] * len(wanted)
    for op in Levenshtein.opcodes([part for part, _ in said], wanted):
        for at in range(op.dest_end - op.dest_start):
            if op.src_start + at < op.src_end:
                (kept if op.tag == "equal" else like)[op.dest_start + at] = said[op.src_start + at][1]
    for i in range(len(words)):
        parts = sum(owner == i for _, owner in said)
        if kept.count(i) != parts:  # only a part of what was written is right
            kept = [None if k == i else k for k in kept]
    out: list[str] = []
    at = 0
    while at < len(wanted):
        mine = kept[at]
        if mine is not None:
            out.append(words[mine])
            while at < len(wanted) and kept[at] == mine:
                at += 1
            continue
        run = at
        while run < len(wanted) and kept[run] is None and (wanted[run] in DIGITS or len(wanted[run]) == 1):
            run += 1
        if run - at > 1:
            out.append(as_signs(wanted[at:run]))
            at = run
            continue
        model = like[at]
        if model is not None and words[model][:1].isdigit():
            out.append(DIGITS.get(wanted[at], wanted[at]))
        elif not out or wanted[at] == "i" or (model and words[model][:1].isupper() and len(wanted[at]) > 2):
            out.append(wanted[at].capitalize())
        else:
            out.append(wanted[at])
        at += 1
    text = " ".join(out)
    end = written[-1:] if written[-1:] in ".?!" else ""
    return text if text[-1:] in ".?!" else text.rstrip(",;:") + end
