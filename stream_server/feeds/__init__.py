"""Results for other programs: over WebSocket, as server-sent events, and by MQTT."""
