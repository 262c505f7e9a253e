"""The rights of those who are analysed, and the oversight of what is done: docs/privacy.md.

:mod:`.policy` decides whether a stream may be analysed; it is pure. :class:`Rights` is the state of
one server: its policy, and whether an overseer has halted it.
"""

from stream_server.rights.config import RightsConfig
from stream_server.rights.policy import Halt, Rights, withheld

__all__ = ["Halt", "Rights", "RightsConfig", "withheld"]
