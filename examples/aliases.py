"""Whoever says an alias means its entry. The context comes with the stream to a server (./scripts/serve), unstored."""

from carryover import Client, Entry, Final, InlineContext, Turn

contacts = [Entry("Margaret Bauer", id="17", aliases=["Meg", "Mum"], weight=3.0), Entry("Matt Bower", id="18")]
context = InlineContext([Turn("system", "Whom do you want to call?")], {"contacts": contacts})
with Client("127.0.0.1:50051") as client:
    for result in client.stream("server/demo/audio/call_meg.flac", context=context, real_time=True):
        if isinstance(result, Final):
            print(result.transcript, [(meant.entry, meant.entry_id) for meant in result.context.meant])
