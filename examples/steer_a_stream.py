"""Two turns of a call on one stream of a server (./scripts/serve): each ends when the caller's turn does."""

from carryover import Client, Final, read_audio

question, names = "Do you mean Meg Jones or Meg Bauer?", ["Meg Jones", "Meg Bauer"]
with Client("127.0.0.1:50051") as client, client.stream(dialogue="call") as stream:
    for turn, file in (("1", "server/demo/audio/call_meg.flac"), ("2", "server/demo/audio/bauer.flac")):
        stream.update(turn=turn)
        for piece in read_audio(file):
            stream.send(piece)
        stream.finalize()  # nobody waits for the silence behind it
        final = next(result for result in stream if isinstance(result, Final) and result.finalized)
        print(final.context.status, final.transcript)
        client.record("call", turn, user=final.transcript, reply=question, contacts=names, expect_speech=True)
        client.wait_until_ready("call", turn)  # meanwhile an assistant speaks its question
