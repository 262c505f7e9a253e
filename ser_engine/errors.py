"""Every error the engine raises on purpose.

::

    SerEngineError
    ├── ConfigError            a setting is unknown, out of range or contradicts another
    ├── CheckpointError        a model folder is missing, incomplete, damaged or foreign
    ├── HubUnavailableError    a model hub did not answer in time, or refused
    ├── RuntimeUnavailableError  a runtime needs a package or a device that is not there
    ├── AudioError             an audio file or array cannot be scored
    ├── AnnotationError        a file of people's labels cannot be read
    ├── EmbeddingError         embeddings cannot be compared
    ├── WindowError            one window cannot be scored; others in the batch can (recoverable)
    ├── StreamBusyError        a stream already has a window waiting (recoverable)
    ├── EngineOverloadedError  the queue of windows is full (recoverable)
    └── EngineDeadError        the engine's worker is gone and stays gone (fatal)

A message says what was got, what was expected and what to do.
"""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """Return the end of an error about a package that is missing: the commands that install it."""
    return (
        f"in a checkout run bash run.sh --extras {extra} --setup-only, elsewhere pip install"
        f" 'emotion-monitor[{extra}]'"
    )


class SerEngineError(Exception):
    """Base class of the engine's errors."""


class ConfigError(SerEngineError):
    """A setting is unknown, out of range or contradicts another."""


class CheckpointError(SerEngineError):
    """A model folder is missing, incomplete, damaged or not an emotion2vec(+) one."""


class HubUnavailableError(SerEngineError):
    """A model hub did not answer in time, or refused."""


class RuntimeUnavailableError(SerEngineError):
    """A runtime needs a package or a device that this machine does not have."""


class AudioError(SerEngineError):
    """An audio file or array cannot be read or scored."""


class AnnotationError(SerEngineError):
    """A file of people's labels cannot be read, or its labels cannot be those of one recording."""


class EmbeddingError(SerEngineError):
    """Embeddings cannot be compared: they are of several models, or are none."""


class WindowError(SerEngineError):
    """One window cannot be scored. The other windows of its batch are not affected."""


class StreamBusyError(SerEngineError):
    """The stream already has a window waiting for the engine."""


class EngineOverloadedError(SerEngineError):
    """The bounded queue of windows is full; try again later."""


class EngineDeadError(SerEngineError):
    """The engine's worker is gone and was not brought back. Nothing will be scored any more."""
