"""``python -m stream_server`` is the ``emotion-monitor`` command."""

from stream_server.cli import main

main()
