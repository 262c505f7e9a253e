"""Receives audio streams, publishes their emotion timelines, and holds the command line."""
