"""Exotel's Stream and Voicebot applets."""
