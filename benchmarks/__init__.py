"""Benchmarks: neolens beside TransformerLens and Hugging Face, in one run, alternating; medians and ratios."""
