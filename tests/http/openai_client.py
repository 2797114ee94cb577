"""What tests/http runs in an environment of its own: OpenAI's client as it is, told by lines of JSON.

A line is a call, the line that it answers with its responses, or the error that it ended with.
"""

import asyncio
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import openai
import websockets


def client(call: dict[str, Any]) -> openai.OpenAI:
    return openai.OpenAI(base_url=call["target"], api_key=call.get("key", "none"), max_retries=0)


def transcribe(call: dict[str, Any]) -> list[Any]:
    with Path(call["audio"]).open("rb") as file:
        made: Any = client(call).audio.transcriptions.create(file=file, model="whisper-1", **call["options"])
        if call["options"].get("stream"):
            return [event.model_dump() for event in made]
    return [made if isinstance(made, str) else {"type": type(made).__name__, **made.model_dump()}]


def models(call: dict[str, Any]) -> list[Any]:
    listed = [one.model_dump() for one in client(call).models.list()]
    return [*listed, client(call).models.retrieve(call.get("model") or listed[0]["id"]).model_dump()]


def realtime(call: dict[str, Any]) -> list[Any]:
    """All events of a session: what the call says is sent one by one, and awaited where it says so."""
    return asyncio.run(_realtime(call))


async def _realtime(call: dict[str, Any]) -> list[Any]:
    opened = openai.AsyncOpenAI(base_url=call["target"], api_key=call.get("key", "none"))
    events: list[Any] = []
    async with opened.realtime.connect(extra_query={"intent": "transcription"}) as connection:

        async def until(kind: str) -> None:
            while True:
                event = await connection.recv()
                events.append({"class": type(event).__name__, **event.model_dump()})
                if event.type == kind:
                    return

        for step in call["steps"]:
            if "until" in step:
                await asyncio.wait_for(until(step["until"]), 60)
            elif "update" in step:
                await connection.session.update(session=step["update"])
            elif "audio" in step:
                data, size = Path(step["audio"]).read_bytes(), 4800
                for start in range(0, len(data), size):
                    await connection.input_audio_buffer.append(
                        audio=base64.b64encode(data[start : start + size]).decode()
                    )
            elif "commit" in step:
                await connection.input_audio_buffer.commit()
            elif "clear" in step:
                await connection.input_audio_buffer.clear()
            else:
                await connection.send(step["send"])
    return events


def python(call: dict[str, Any]) -> list[str]:
    """What a program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(call["code"], {})
    return out.getvalue().splitlines()


CALLS = (transcribe, models, realtime, python)
for line in iter(sys.stdin.readline, ""):
    told = json.loads(line)
    do = {call.__name__: call for call in CALLS}[told["do"]]
    try:
        result: dict[str, Any] = {"responses": do(told)}
    except openai.APIStatusError as error:
        result = {"code": type(error).__name__, "details": json.dumps(error.body)}
    except openai.APIError as error:
        result = {"code": type(error).__name__, "details": error.message}
    except websockets.exceptions.InvalidStatus as error:
        result = {"code": str(error.response.status_code), "details": str(error)}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
