"""One module a command: parse the arguments, call the library, print.

A module imports what it needs inside its functions, so that ``--help`` and errors in the arguments
come at once: torch alone takes seconds.
"""
