"""Measurements, and what they are run on."""

import os

# As emotion_monitor does, and before NumPy is imported, which reads it once. Without it a server in
# a benchmark keeps a second core busy with waiting.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
