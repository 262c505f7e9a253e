"""Measurements, and what they are run on."""
