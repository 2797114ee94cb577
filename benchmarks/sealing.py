"""Command: what sealing costs, by the Encryption SDK for every item and under a dialogue's key.

Prints milliseconds of one thread for each, and for reading eight turns of four payloads. See docs/context_store.md.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import typer

from context_store.sealing import digest, seal, unseal
from context_store.wrapping import KEY_BYTES, local_wrapping_key

ITEMS_OF_EIGHT_TURNS = 32


def main(
    repeats: Annotated[int, typer.Option(min=3, help="Measurements of each; the median counts.")] = 200,
    size: Annotated[int, typer.Option(min=0, help="Bytes of a payload.")] = 200,
) -> None:
    """Measure the cost of encryption: the AWS Encryption SDK for every item, against a data key for each dialogue."""
    text = secrets.token_bytes(size)
    context = {"tenant": "acme", "dialogue": "d" * 32, "turn": "t1", "kind": "utterance", "item": "event-1"}
    wrapping, secret = local_wrapping_key(), secrets.token_bytes(KEY_BYTES)
    key_message, sealed = wrapping.wrap(secret, context), seal(secret, context, text)
    sdk_write = _median_ms(lambda: wrapping.wrap(secret, context), repeats)
    sdk_read = _median_ms(lambda: wrapping.unwrap(key_message, context), repeats)
    write = _median_ms(lambda: (seal(secret, context, text), digest(secret, context, text)), repeats)
    read = _median_ms(lambda: unseal(secret, context, sealed), repeats)
    typer.echo(f"{'ms':<42}{'write':>8}{'read':>8}")
    typer.echo(f"{'Encryption SDK, one item or one key':<42}{sdk_write:>8.3f}{sdk_read:>8.3f}")
    typer.echo(f"{'under the dialogue key, one item':<42}{write:>8.3f}{read:>8.3f}")
    many = ITEMS_OF_EIGHT_TURNS
    typer.echo(f"{'8 turns x 4 items, SDK for every item':<42}{many * sdk_write:>8.1f}{many * sdk_read:>8.1f}")
    keyed_write, keyed_read = sdk_write + many * write, sdk_read + many * read
    typer.echo(f"{'8 turns x 4 items, key wrapped once':<42}{keyed_write:>8.1f}{keyed_read:>8.1f}")


def _median_ms(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    typer.run(main)
