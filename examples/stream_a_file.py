"""Stream a file to a server (./scripts/serve) and print partial and final results."""

from carryover import Client, Final

with Client("127.0.0.1:50051") as client:
    for result in client.stream("server/demo/audio/call_meg.flac", dialogue="d1", turn="1"):
        print(result.context.status if isinstance(result, Final) else "…", result.transcript)
