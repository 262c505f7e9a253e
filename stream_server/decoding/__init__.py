"""Live audio that comes in a codec or container, as samples: decoded in a process a stream.

FFmpeg reads what strangers send, so it does that where a crash, a leak or worse concerns one
stream and nothing else: in a child without files, without secrets in its environment, and with
little memory (``child.py``). ``process.py`` is the server's end of it. Nothing is imported
here: the child has to start quickly.
"""
