"""emotion2vec+: published checkpoints, the network they are for, FunASR as the reference.

Nothing is imported here: the network alone takes torch only, so that a benchmark of it runs on a
machine that has little else.
"""
