"""Recognise a recording and rescore its n-best list with the context of a dialogue, without a server."""

from pathlib import Path

from asr.audio import read_container
from asr.context import Context, ContextModels, Entry, Turn
from asr.context.entity_linking import meant
from asr.recognition import Recognizer

recognizer = Recognizer.load()
models = ContextModels.load(models=recognizer.models)
embedding = models.encoder.encode(
    Context(
        turns=(Turn("user", "call Meg"), Turn("system", "Do you mean Meg Jones or Meg Bauer?")),
        entries=(Entry("contacts", "Meg Jones"), Entry("contacts", "Meg Bauer")),
    )
)
samples, rate = read_container(Path("server/demo/audio/bauer.flac").read_bytes())
result = recognizer.recognize(samples, rate)
rescored = models.rescorer.rescore(result.nbest, embedding, lambda texts: recognizer.force_score(result.encoded, texts))
print(rescored.nbest[0].text, rescored.changed, rescored.biased_words)
print(meant(rescored.nbest[0].text, embedding))
