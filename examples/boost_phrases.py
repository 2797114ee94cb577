"""Recognise a recording with and without boosted phrases, without a server."""

from pathlib import Path

from asr.audio import read_container
from asr.decoding import BoostedPhrase
from asr.recognition import Recognizer

recognizer = Recognizer.load()
graph = recognizer.compile([BoostedPhrase(name, 5.0) for name in ("Drybar", "Fantastic Sams", "Blue Tit")])
samples, rate = read_container(Path("samples/audio/blue_tit.opus").read_bytes())
print(recognizer.recognize(samples, rate).nbest[0].text)  # blue it
print(recognizer.recognize(samples, rate, graph=graph).nbest[0].text)  # blue tit
