"""The ways in: one path for each kind of client, with its own way to prove who it is."""
