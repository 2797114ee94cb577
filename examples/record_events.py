"""Record the events of a turn in a context store of this process, and read them back."""

from context_store import (
    ContextStore,
    DialogueId,
    Event,
    ExpectSpeech,
    StoreConfig,
    Utterance,
    create_tables,
    local_wrapping_key,
)
from context_store.local_server import local_server

with local_server() as url:  # without endpoint_url and keys: AWS, as boto3 finds it
    config = StoreConfig(endpoint_url=url, access_key_id="any", secret_access_key="any")
    create_tables(config)  # or: ./scripts/create_tables --region eu-west-1
    store = ContextStore(config, local_wrapping_key())
    recorded = store.record(
        DialogueId("acme", "d1"),
        "turn-1",
        [
            Event("e1", 1700000000.0, Utterance("call Meg")),
            Event("e2", 1700000002.5, ExpectSpeech()),
        ],
    )
    if recorded.trigger:  # the same round trip says so
        for turn in store.read_turns(DialogueId("acme", "d1")):  # the last 8, oldest first, decrypted
            print(turn.turn, [getattr(event.body, "text", "") for event in turn.events])  # no print shows texts unasked
