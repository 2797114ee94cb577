"""Tell a server (./scripts/serve) what happened in a turn, then stream the answer, which is recognised in context."""

from carryover import Client, Final

question, names = "Do you mean Meg Jones or Meg Bauer?", ["Meg Jones", "Meg Bauer"]
with Client("127.0.0.1:50051") as client:
    client.record("d", "1", user="call meg", reply=question, contacts=names, expect_speech=True)
    client.wait_until_ready("d", "1")  # meanwhile an assistant speaks its question
    for result in client.stream("server/demo/audio/bauer.flac", dialogue="d", turn="2"):
        print(result.context.status if isinstance(result, Final) else "…", result.transcript)
