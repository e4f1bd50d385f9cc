"""Activation patching measured: beside TransformerLens and nnsight, with each saving taken away, and as sweeps grow."""
