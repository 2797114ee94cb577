"""What tests/doors/test_riva.py runs in an environment of its own: NVIDIA's client as it is, told by lines of JSON.

A line is a call, the line that it answers with its responses, or the status that it ended with.
"""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import riva.client
import riva.client.proto.riva_asr_pb2 as messages
from google.protobuf import descriptor_pb2
from google.protobuf.json_format import MessageToDict, ParseDict


def auth(call: dict[str, Any]) -> riva.client.Auth:
    metadata = [["authorization", f"Bearer {call['key']}"]] if "key" in call else None
    return riva.client.Auth(uri=call["target"], metadata_args=metadata, ssl_root_cert=call.get("ca"))


def pieces(call: dict[str, Any]) -> Iterator[bytes]:
    """The audio in pieces, as AudioChunkFileIterator gives them; behind a line, where the call says `hold`."""
    if call.get("hold"):
        assert sys.stdin.readline() == "go on\n"
    data, size = Path(call["audio"]).read_bytes(), call.get("chunk", 6400)
    for start in range(0, len(data), size):
        yield data[start : start + size]


def stream(service: riva.client.ASRService, call: dict[str, Any]) -> list[Any]:
    config = ParseDict(call["config"], riva.client.StreamingRecognitionConfig())
    return list(service.streaming_response_generator(pieces(call), config))


def printed(service: riva.client.ASRService, call: dict[str, Any]) -> list[str]:
    """What NVIDIA's transcribe_file.py does with a file, and its text."""
    config = ParseDict(call["config"], riva.client.StreamingRecognitionConfig())
    riva.client.add_word_boosting_to_config(config, call.get("boost"), 4.0)
    riva.client.add_custom_configuration_to_config(config, call.get("custom", ""))
    out = io.StringIO()
    with riva.client.AudioChunkFileIterator(call["audio"], 1600) as chunks:
        riva.client.print_streaming(service.streaming_response_generator(chunks, config), output_file=out)
    return [line for line in out.getvalue().splitlines() if line.startswith("##")]


def requests(service: riva.client.ASRService, call: dict[str, Any]) -> list[Any]:
    """Any messages of a stream."""
    sent = [ParseDict(one, messages.StreamingRecognizeRequest()) for one in call["messages"]]
    return list(service.stub.StreamingRecognize(iter(sent), metadata=service.auth.get_auth_metadata()))


def recognize(service: riva.client.ASRService, call: dict[str, Any]) -> list[Any]:
    config = ParseDict(call["config"], riva.client.RecognitionConfig())
    return [service.offline_recognize(Path(call["audio"]).read_bytes(), config)]


def offline(service: riva.client.ASRService, call: dict[str, Any]) -> list[str]:
    """What NVIDIA's transcribe_file_offline.py prints of a file."""
    config = ParseDict(call["config"], riva.client.RecognitionConfig())
    riva.client.add_audio_file_specs_to_config(config, call["audio"])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        riva.client.print_offline(service.offline_recognize(Path(call["audio"]).read_bytes(), config))
    return [line for line in out.getvalue().splitlines() if line.startswith("Final transcript:")]


def models(service: riva.client.ASRService, call: dict[str, Any]) -> list[Any]:
    request = messages.RivaSpeechRecognitionConfigRequest(model_name=call.get("model", ""))
    return [service.stub.GetRivaSpeechRecognitionConfig(request, metadata=service.auth.get_auth_metadata())]


def python(service: Any, call: dict[str, Any]) -> list[str]:
    """What a program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(call["code"], {})
    return out.getvalue().splitlines()


def descriptor(service: Any, call: dict[str, Any]) -> list[Any]:
    """Of the messages, without a call."""
    from riva.client.proto import riva_audio_pb2, riva_common_pb2

    files = []
    for module in (messages, riva_audio_pb2, riva_common_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        files.append(file)
    return files


CALLS = (stream, printed, requests, recognize, offline, models, python, descriptor)
for line in iter(sys.stdin.readline, ""):
    told = json.loads(line)
    do = {call.__name__: call for call in CALLS}[told["do"]]
    try:
        service = riva.client.ASRService(auth(told)) if "target" in told else None
        answers = [
            one if isinstance(one, str) else MessageToDict(one, preserving_proto_field_name=True)
            for one in do(service, told)
        ]
        result: dict[str, Any] = {"responses": answers}
    except grpc.RpcError as error:
        result = {"code": error.code().name, "details": error.details()}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
