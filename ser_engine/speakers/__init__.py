"""Who speaks when in one channel.

::

    audio ─▶ speech (detector) ─▶ voice pieces of 1.5 s ─▶ embeddings ─▶ clusters ─▶ turns
"""
