"""Deepgram's live transcription protocol, ``/v1/listen``, with emotions instead of words.

What it says is at https://developers.deepgram.com/reference/speech-to-text/listen-streaming; what
this server makes of it is in ``docs/telephony/deepgram.md``.
"""
