"""What tests/doors/test_google.py runs in an environment of its own: Google's clients as they are.

They are told by lines of JSON.

A line is a call, the line that it answers with its responses, or the status that it ended with.
"""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import speech_v1, speech_v2
from google.cloud.speech_v1.services.speech import transports as transports_v1
from google.cloud.speech_v2.services.speech import transports as transports_v2
from google.protobuf import descriptor_pb2

VERSIONS = {"v1": (speech_v1, transports_v1), "v2": (speech_v2, transports_v2)}


def client(call: dict[str, Any]) -> Any:
    """With a key over TLS, or over a channel without it."""
    speech, transports = VERSIONS[call["version"]]
    if "key" in call:
        return speech.SpeechClient(client_options=ClientOptions(api_endpoint=call["target"], api_key=call["key"]))
    return speech.SpeechClient(transport=transports.SpeechGrpcTransport(channel=grpc.insecure_channel(call["target"])))


def pieces(call: dict[str, Any]) -> Iterator[bytes]:
    """The audio in pieces; behind a line, where the call says `hold`."""
    if call.get("hold"):
        assert sys.stdin.readline() == "go on\n"
    data, size = Path(call["audio"]).read_bytes(), call.get("chunk", 6400)
    for start in range(0, len(data), size):
        yield data[start : start + size]


def requests(call: dict[str, Any]) -> Iterator[Any]:
    """All messages of a stream, the first included."""
    speech, _ = VERSIONS[call["version"]]
    first = {"recognizer": call["recognizer"]} if call["version"] == "v2" else {}
    yield speech.StreamingRecognizeRequest(streaming_config=call["config"], **first)
    name = "audio_content" if call["version"] == "v1" else "audio"
    for piece in pieces(call):
        yield speech.StreamingRecognizeRequest({name: piece})


def stream(call: dict[str, Any]) -> list[Any]:
    if call["version"] == "v2":
        return list(client(call).streaming_recognize(requests=requests(call), timeout=60))
    config = speech_v1.StreamingRecognitionConfig(call["config"])
    messages = (speech_v1.StreamingRecognizeRequest(audio_content=piece) for piece in pieces(call))
    return list(client(call).streaming_recognize(config, messages, timeout=60))


def stream_async(call: dict[str, Any]) -> list[Any]:
    speech, transports = VERSIONS[call["version"]]

    async def messages() -> AsyncIterator[Any]:
        for request in requests(call):
            yield request

    async def all_of_them() -> list[Any]:
        async with grpc.aio.insecure_channel(call["target"]) as channel:
            service = speech.SpeechAsyncClient(transport=transports.SpeechGrpcAsyncIOTransport(channel=channel))
            return [one async for one in await service.streaming_recognize(requests=messages(), timeout=60)]

    return asyncio.run(all_of_them())


def recognize(call: dict[str, Any]) -> list[Any]:
    content = Path(call["audio"]).read_bytes()
    if call["version"] == "v1":
        return [client(call).recognize(config=call["config"], audio={"content": content}, timeout=60)]
    request = {"recognizer": call["recognizer"], "config": call["config"], "content": content}
    return [client(call).recognize(request=request, timeout=60)]


def elsewhere(call: dict[str, Any]) -> list[Any]:
    """A method that only Google has."""
    if call["version"] == "v1":
        request = {"config": {"language_code": "en-US"}, "audio": {"uri": "gs://a/b"}}
        return [client(call).long_running_recognize(request=request, timeout=60)]
    return [client(call).get_recognizer(name=call["recognizer"], timeout=60)]


def python(call: dict[str, Any]) -> list[str]:
    """What a program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(call["code"], {})
    return out.getvalue().splitlines()


def descriptor(call: dict[str, Any]) -> list[Any]:
    """Of the messages, without a call."""
    speech, _ = VERSIONS[call["version"]]
    kinds = [speech.RecognizeRequest, speech.CustomClass]
    files = []
    for file in {kind.pb(kind()).DESCRIPTOR.file.name: kind.pb(kind()).DESCRIPTOR.file for kind in kinds}.values():
        copied = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copied)
        files.append(copied)
    return files


def as_dict(answer: Any) -> Any:
    from google.protobuf.json_format import MessageToDict

    if isinstance(answer, str):
        return answer
    message = answer if isinstance(answer, descriptor_pb2.FileDescriptorProto) else type(answer).pb(answer)
    return MessageToDict(message, preserving_proto_field_name=True)


CALLS = (stream, stream_async, recognize, elsewhere, python, descriptor)
for line in iter(sys.stdin.readline, ""):
    told = json.loads(line)
    try:
        do = {call.__name__: call for call in CALLS}[told["do"]]
        result: dict[str, Any] = {"responses": [as_dict(one) for one in do(told)]}
    except GoogleAPICallError as error:
        code = error.grpc_status_code
        result = {"code": code.name if code else type(error).__name__, "details": error.message}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
