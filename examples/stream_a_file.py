"""Stream a file to a server (./scripts/serve) and print partial and final results."""

import grpc
import soundfile
from carryover.v1 import recognizer_pb2 as rec, recognizer_pb2_grpc

stub = recognizer_pb2_grpc.RecognizerStub(grpc.insecure_channel("127.0.0.1:50051"))
audio, rate = soundfile.read("server/demo/audio/call_meg.flac", dtype="int16")  # one channel


def messages():
    yield rec.StreamingRecognizeRequest(
        config=rec.StreamingConfig(
            encoding=rec.LINEAR16, sample_rate_hertz=rate, interim_results=True, dialogue_id="d1", turn_id="1"
        )
    )
    for start in range(0, len(audio), rate // 10):  # 100 ms each
        yield rec.StreamingRecognizeRequest(audio=audio[start : start + rate // 10].tobytes())


for response in stub.StreamingRecognize(messages()):
    for result in response.results:
        status = rec.ContextInfo.Status.Name(result.context.status) if result.is_final else "…"
        print(status, result.alternatives[0].transcript)
