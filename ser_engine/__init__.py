"""Turns windows of audio into emotion posteriors. Knows nothing of the other packages."""
