"""A daemon keeps the code server that it has begun, as long as that is well.

Dagster's daemon begins another one every minute, in case the code has changed: that takes two to three seconds of a
processor for ever, and with the old server goes the process that its runs are forked from. Where a server of its own
stands beside the daemon (`mm up`, compose, Kubernetes) Dagster keeps it, too. A new version of the code is taken when
the daemon is started again.
"""

from __future__ import annotations

import time

from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.remote_representation.grpc_server_registry import (
    ErrorRegistryEntry,
    GrpcServerRegistry,
    ServerRegistryEntry,
)

KEPT_SECONDS = 86_400
"""Whatever a process gathers in its life it does not gather for longer."""
ANSWER_SECONDS = 10
"""How long a server may take to answer; another one begins beside one that takes longer, whose runs go on."""


def keep() -> None:
    """In the process of a daemon: what it does away with every minute are servers that are not well."""
    GrpcServerRegistry.clear_all_grpc_endpoints = _clear_what_is_not_well  # type: ignore[method-assign]


def _clear_what_is_not_well(registry: GrpcServerRegistry) -> None:
    with registry._lock:
        entries = list(registry._active_entries.items())
    lost = [(origin, entry) for origin, entry in entries if not _is_well(entry)]
    with registry._lock:
        for origin, entry in lost:
            if registry._active_entries.get(origin) is entry:
                del registry._active_entries[origin]


def _is_well(entry: ServerRegistryEntry | ErrorRegistryEntry) -> bool:
    """Whether a server lives, is not old, and answers."""
    if isinstance(entry, ErrorRegistryEntry) or not 0 <= time.time() - entry.creation_timestamp < KEPT_SECONDS:
        return False
    if entry.process.server_process.poll() is not None:
        return False
    try:
        entry.process.create_client().get_server_id(timeout=ANSWER_SECONDS)  # type: ignore[no-untyped-call]
    except DagsterUserCodeUnreachableError:
        return False
    return True
