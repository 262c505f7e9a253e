"""Vonage's WebSockets."""
