"""Embeddings of recordings: where they come from, and the page that groups them."""
