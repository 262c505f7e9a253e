"""The HTTP server: health, metrics, feeds; and what every page and interface on it shares."""
