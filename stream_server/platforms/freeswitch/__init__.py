"""FreeSWITCH's mod_audio_stream and mod_audio_fork."""
