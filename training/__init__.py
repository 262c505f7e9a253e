"""How the built-in model is made: prepare, train, evaluate. See README.md."""
