from __future__ import annotations

from benchmarks.stages import by_stage


def test_a_sample_belongs_to_the_innermost_function_that_is_known():
    loop = "main (benchmarks/live_server.py:99);Runner.run (asyncio/runners.py:118)"
    received = f"{loop};MessageConnection.data_received (/x/stream_server/streams/socket.py:120)"
    hear = f"{loop};SharedHearing._hear (/x/stream_server/streams/hearing.py:52)"
    heard = f"{hear};hear_together (/x/ser_engine/timeline/silero.py:240)"
    found = by_stage(
        [
            f"{loop} 7",
            f"{received} 1",
            f"{received};Protocol.parse (websockets/protocol.py:1) 2",
            f"{hear} 3",
            f"{heard};sound_powers (/x/ser_engine/timeline/speech.py:98) 4",
            f"{heard};_run (/x/ser_engine/timeline/silero.py:263);rfft (numpy/fft/_p.py:3) 5",
            "Thread._bootstrap (threading.py:1);ThreadWorker._work (ser_engine/core/host.py:7) 9",
        ]
    )
    assert found == {
        "the loop, the system, waiting": 7,
        "messages received": 6,
        "speech detector: the rest": 4,
        "speech detector: network": 5,
    }
