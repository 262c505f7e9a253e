"""From a client's bytes to float audio on the 16 kHz clock, and what is wrong with it."""
