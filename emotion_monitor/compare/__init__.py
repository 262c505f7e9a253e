"""Granularities compared: one recording analysed in every way, with time and memory measured."""
