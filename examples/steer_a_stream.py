"""Two turns of a call on one stream of a server (./scripts/serve): each ends when the caller's turn does."""

import queue
import time

import grpc
import soundfile

from carryover import Client
from carryover.v1 import recognizer_pb2 as rec
from carryover.v1 import recognizer_pb2_grpc

SERVER, RATE = "127.0.0.1:50051", 16_000
requests: queue.Queue[rec.StreamingRecognizeRequest | None] = queue.Queue()


def say(file: str) -> rec.StreamingRecognitionResult:
    """What a recording says, as if somebody spoke; nobody waits for the silence behind it."""
    audio, _ = soundfile.read(file, dtype="int16")
    for start in range(0, len(audio), RATE // 10):
        requests.put(rec.StreamingRecognizeRequest(audio=audio[start : start + RATE // 10].tobytes()))
        time.sleep(0.1)
    requests.put(rec.StreamingRecognizeRequest(finalize=rec.Finalize()))
    return next(result for response in responses for result in response.results if result.finalized)


with grpc.insecure_channel(SERVER) as channel, Client(SERVER) as client:
    config = rec.StreamingConfig(encoding=rec.LINEAR16, sample_rate_hertz=RATE, dialogue_id="call", turn_id="1")
    requests.put(rec.StreamingRecognizeRequest(config=config))
    responses = recognizer_pb2_grpc.RecognizerStub(channel).StreamingRecognize(iter(requests.get, None))
    print(say("server/demo/audio/call_meg.flac").alternatives[0].transcript)

    question, names = "Do you mean Meg Jones or Meg Bauer?", ["Meg Jones", "Meg Bauer"]
    client.record("call", "1", user="call meg", reply=question, contacts=names, expect_speech=True)
    client.wait_until_ready("call", "1")  # meanwhile an assistant speaks its question
    requests.put(rec.StreamingRecognizeRequest(update=rec.StreamUpdate(turn_id="2")))

    answer = say("server/demo/audio/bauer.flac")
    print(rec.ContextInfo.Status.Name(answer.context.status), answer.alternatives[0].transcript)
    requests.put(None)
