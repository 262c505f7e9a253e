"""emotion2vec and emotion2vec+, as FunASR publishes them."""
