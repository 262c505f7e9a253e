"""Sends a microphone or an audio file to a stream server."""
