"""Between the processes of one server, and between machines: messages, and what carries them."""
