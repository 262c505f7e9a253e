"""The built-in model of the size of a small speech encoder: network, weights and model card."""
