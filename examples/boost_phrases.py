"""Recognise a recording with and without boosted phrases, without a server."""

from pathlib import Path

from asr.audio import read_container
from asr.decoding import BoostedPhrase
from asr.recognition.recognizer import Recognizer

recognizer = Recognizer.load()
phrases = [BoostedPhrase("Drybar", 5.0), BoostedPhrase("Fantastic Sams", 5.0), BoostedPhrase("Blue Tit", 5.0)]
samples, rate = read_container(Path("samples/audio/blue_tit.opus").read_bytes())
print(recognizer.recognize(samples, rate).nbest[0].text)  # blue it
print(recognizer.recognize(samples, rate, phrases=phrases).nbest[0].text)  # blue tit
