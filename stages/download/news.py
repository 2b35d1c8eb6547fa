"""What a long wait is for, in one line: how far the shards in work are, and which hosts most rows wait for."""

from __future__ import annotations

from collections.abc import Sequence

from stages.download.host import Host
from stages.download.shard import Shard

NAMED = 3  # hosts


def news(shards: Sequence[Shard], hosts: Sequence[Host], now: float) -> str:
    """now: on the clock of `host.not_before`."""
    rows = sum(shard.rows for shard in shards)
    done = rows - sum(shard.open for shard in shards)
    worst = sorted((host for host in hosts if host.open), key=lambda host: -host.open)[:NAMED]
    named = "; ".join(f"{host.label} ({host.open} rows, {_state(host, now)})" for host in worst)
    return (
        f"download: {done} of {rows} rows of {len(shards)} shards in work are done; most wait for {named or 'decoding'}"
    )


def _state(host: Host, now: float) -> str:
    if host.given_up:
        return "given up"
    if host.held and host.not_before > now:
        return f"to be asked again in {host.not_before - now:.0f} s"
    if host.silent:
        return f"no answer {host.silent} times in a row"
    if host.pace.imposed:
        return f"asked every {host.pace.pause_s:.3g} s"
    return f"{host.active} requests under way"
