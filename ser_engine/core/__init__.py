"""From a window of audio to its frame logits: cores, batches, runtimes and kept features."""
