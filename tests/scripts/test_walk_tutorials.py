"""A newcomer reaches the last line of each tutorial by what is printed there, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import soundfile

from mic_client.audio_file import load_sample_call
from scripts.walk_tutorials import LAST_LINES, NO_MICROPHONE, Step, steps, walk
from tests.requirements import REPOSITORY
from tests.support.dashboard_server import free_ports


@pytest.mark.needs("pandas", "pyarrow")
@pytest.mark.parametrize("name", sorted(LAST_LINES))
def test_a_tutorial_reaches_its_last_line(name: str, tmp_path: Path):
    audio, http, receiver = free_ports(3)
    changes = {
        **NO_MICROPHONE,
        # As in a first terminal: other servers of this machine, and no waiting for a call's end.
        "(*load_sample_call())": "(*load_sample_call(), speed=float('inf'))",
        "--config mine.yaml": f"--config mine.yaml --port {audio} --http-port {http}",
        "--sample-call": f"--sample-call --speed max --url ws://localhost:{audio}",
        "8099": str(receiver),
        # Two recordings instead of thirty.
        "python -m scripts.make_stand_ins recordings": "mkdir recordings; mv *.wav recordings",
    }
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        # The built-in model that is quickest, and no hub: the page's own is the default one.
        "EMOTION_MONITOR__SER_ENGINE__MODEL__NAME": "compact",
        "EMOTION_MONITOR__STREAM_SERVER__TELEPHONY__AUDIOSOCKET__PORT": "-1",
    }
    samples, rate_hz = load_sample_call()
    for start in (0, 20):
        part = samples[start * rate_hz : (start + 4) * rate_hz]
        soundfile.write(tmp_path / f"{start}.wav", part, rate_hz)
    walk(name, tmp_path, environment, changes, f"http://localhost:{http}/readyz")


def test_steps_are_what_a_page_tells_its_reader():
    page = """
Save it as `mine.py`:

```python
print(1)
```

Start it, in a terminal of its own:

```sh
bash run.sh --setup-only
python mine.py    # waits
```

```sh
curl localhost
```
"""
    assert list(steps(page)) == [
        Step("save", "print(1)\n", "mine.py"),
        Step("start", "python mine.py"),
        Step("run", "curl localhost"),
    ]


def test_a_step_that_is_missing_is_an_error(tmp_path: Path):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    with pytest.raises(RuntimeError, match="failed"):
        walk("recordings-as-a-table", tmp_path, environment, {"emotion-monitor": "not-installed"})
