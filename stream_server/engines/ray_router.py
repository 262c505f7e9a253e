"""Which replica of Ray Serve a call goes to; Ray Serve imports this in gateways.

Calls of one part go to one replica as long as there are so many, because that one keeps features of
its streams' last windows; to the next one if it is dead or full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import FIFOMixin, RequestRouter


class PartRouter(FIFOMixin, RequestRouter):
    """Takes the replica of the part's number; see Ray Serve."""

    async def choose_replicas(
        self, candidate_replicas: Sequence[Any], pending_request: Any = None
    ) -> list[list[Any]]:
        """Return the replicas to be tried one after another."""
        session = ""
        if pending_request is not None:
            # Wait between tries when all are full.
            pending_request.routing_context.should_backoff = True
            session = pending_request.metadata.session_id
        ordered = sorted(candidate_replicas, key=lambda one: str(one.replica_id.unique_id))
        first = int(session) % len(ordered) if session.isdecimal() and ordered else 0
        return [[one] for one in ordered[first:] + ordered[:first]]
