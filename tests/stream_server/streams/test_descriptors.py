from __future__ import annotations

import resource

import pytest

from stream_server.streams.handshakes import BACKLOG, Descriptors, raise_limit


@pytest.mark.parametrize("limit", [64, 256, 1024, 65_536])
def test_pages_give_way_before_calls_and_calls_before_their_files(limit: int):
    kept = Descriptors(limit)
    assert 0 < kept.for_http < kept.for_calls < limit
    assert kept.over_for_http(kept.for_http - 1) == kept.over_for_calls(kept.for_calls - 1) == 0
    assert (kept.over_for_http(kept.for_http), kept.over_for_calls(limit - 1)) == (
        1,
        limit - kept.for_calls,
    )
    if limit >= 1024:
        # What a port accepts at once leaves some of what is kept for the others.
        assert limit - kept.for_calls > BACKLOG < kept.for_calls - kept.for_http


def test_the_limit_of_the_process_is_raised_and_never_lowered():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowered = min(soft, 512)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, hard))
        limit = raise_limit()
        assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert lowered <= limit <= 65_536
        assert raise_limit() == limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
