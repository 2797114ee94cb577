"""Tell a server (./scripts/serve) what happened in a turn, then stream the answer, which is recognised in context."""

import time

import grpc
import soundfile
from carryover.v1 import context_pb2 as ctx, context_pb2_grpc, recognizer_pb2 as rec, recognizer_pb2_grpc

channel = grpc.insecure_channel("127.0.0.1:50051")
recognizer = recognizer_pb2_grpc.RecognizerStub(channel)
context = context_pb2_grpc.ContextStub(channel)

context.RecordEvents(
    ctx.RecordEventsRequest(
        dialogue_id="d",
        turn_id="1",
        events=[
            ctx.Event(event_id="1", utterance=ctx.Utterance(text="call meg")),
            ctx.Event(event_id="2", reply=ctx.Reply(text="Do you mean Meg Jones or Meg Bauer?")),
            ctx.Event(event_id="3", entities=ctx.Entities(signal="contacts", entries=["Meg Jones", "Meg Bauer"])),
            ctx.Event(event_id="4", expect_speech=ctx.ExpectSpeech()),
        ],
    )
)

time.sleep(2)  # the assistant speaks its question; meanwhile the context is made
audio, rate = soundfile.read("server/demo/audio/bauer.flac", dtype="int16")  # one channel


def messages():
    yield rec.StreamingRecognizeRequest(
        config=rec.StreamingConfig(
            encoding=rec.LINEAR16, sample_rate_hertz=rate, interim_results=True, dialogue_id="d", turn_id="2"
        )
    )
    for start in range(0, len(audio), rate // 10):
        yield rec.StreamingRecognizeRequest(audio=audio[start : start + rate // 10].tobytes())


for response in recognizer.StreamingRecognize(messages()):
    for result in response.results:
        status = rec.ContextInfo.Status.Name(result.context.status) if result.is_final else "…"
        print(status, result.alternatives[0].transcript)
