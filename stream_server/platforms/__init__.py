"""Telephone and voice platforms that stream calls to the server: one folder a platform."""
