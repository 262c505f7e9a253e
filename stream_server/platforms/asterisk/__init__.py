"""Asterisk's WebSocket channel driver, chan_websocket."""
