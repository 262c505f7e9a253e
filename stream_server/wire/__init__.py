"""What goes over the wire: message types and sans-I/O protocols.

Imports neither torch nor asyncio.
"""
