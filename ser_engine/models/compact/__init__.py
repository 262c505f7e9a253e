"""The built-in model: network, weights and model card."""
