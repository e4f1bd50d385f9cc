"""From final residual streams to metrics: only the positions and vocabulary columns that a metric reads, in parts.

`predictions` reads every position, `patched_runs` the runs of a sweep, `losses` the loss of predicting each next token.
"""
