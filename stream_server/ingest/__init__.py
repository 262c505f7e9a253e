"""Where audio comes in: WebSocket connections, who may open one, and what they may do."""
