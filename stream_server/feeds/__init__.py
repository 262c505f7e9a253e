"""How programs are told of results: over WebSocket, as server-sent events, and by MQTT."""
