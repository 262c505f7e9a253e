"""Genesys AudioHook, version 2, the server's side; ``docs/telephony/audiohook.md`` describes it."""
