"""The command line: the composition root, the only place that may import every package."""

from __future__ import annotations

import os
import signal

if os.getpid() == 1:
    # The kernel drops signals that process 1, e.g. a container's, has no handler for: without this
    # one a SIGTERM during the imports, or to a command without a handler of its own, is lost.
    # _exit() is what the default action would do; an exception could be caught by an import.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))

# Before NumPy is imported, which reads it once. Its products are small: threads of its own would
# spin beside the engine's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

try:
    from emotion_monitor.app import main
except KeyboardInterrupt:  # The imports take long enough for somebody to change their mind.
    raise SystemExit(130) from None

__all__ = ["main"]
