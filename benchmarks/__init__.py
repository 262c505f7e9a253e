"""Benchmarks: what is fast, how fast, and how right. See ``docs/performance.md``."""

# Before NumPy is imported: it says how many threads products of matrices take, as for every command
# of the program. Without it a server in a benchmark keeps a second core busy with waiting.
import emotion_monitor  # noqa: F401
