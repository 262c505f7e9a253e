"""Shows live and recorded emotion timelines in a browser."""
