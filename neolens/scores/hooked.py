"""The plain way to look: the model itself is run, with a hook on every layer's pattern.

For any TransformerBridge, and beside the streamed pass as a second opinion: whatever stands on the model acts. One
whole pattern is there at a time; it is handed on in blocks of queries, as the streamed pass hands them on, and no
logits are computed. What a layer's queries see is known from the config only, so every pattern is held against it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Int
from torch import Tensor

from neolens.models.other_architectures import Facts
from neolens.models.spans import visible
from neolens.network import PatternBlock
from neolens.network.blockwise import BLOCK, Observer
from neolens.sites import hook_name

OUTSIDE = 1e-6
"""The largest attention on a key that a layer's span leaves out."""


class _LastPatternSeen(Exception):
    """Ends a pass that has shown all its patterns."""


def refuse_patternless(model: Any, facts: Facts) -> None:
    """Nothing, if every layer of the model has a pattern to hook.

    Raises:
        ValueError: one has none.
    """
    points = model.hook_dict
    for layer in range(facts.layers):
        if (name := hook_name("pattern", layer)) not in points:
            raise ValueError(f"{facts.name} has no {name}: expected a model with attention in each of its layers")


def hooked(model: Any, facts: Facts, tokens: Int[Tensor, "prompt pos"], observer: Observer) -> None:
    """Run the model and hand the observer every layer's pattern, a block of queries at a time.

    Raises:
        ValueError: a layer shows no pattern, more than one, one of another shape, or attention outside its span.
    """
    seen: set[int] = set()
    shape = (len(tokens), facts.heads, tokens.shape[1], tokens.shape[1])

    def look(layer: int) -> Callable[..., None]:
        def hook(pattern: Tensor, hook: Any) -> None:
            if layer in seen or pattern.shape != shape:
                raise ValueError(
                    f"layer {layer} of {facts.name} shows {'another' if layer in seen else 'a'} pattern, of shape "
                    f"{tuple(pattern.shape)}: expected one, of shape {shape} (prompt, head, query_pos, key_pos)"
                )
            seen.add(layer)
            _hand_on(pattern, layer, facts, observer)
            if len(seen) == facts.layers:
                raise _LastPatternSeen

        return hook

    try:
        hooks = [(hook_name("pattern", layer), look(layer)) for layer in range(facts.layers)]
        model.run_with_hooks(tokens, fwd_hooks=hooks, return_type=None, use_cache=False)
    except _LastPatternSeen:
        return
    silent = min(set(range(facts.layers)) - seen)
    raise ValueError(
        f"layer {silent} of {facts.name} shows no pattern: its attention is computed without one; build the bridge "
        'from a model with attn_implementation="eager"'
    )


def _hand_on(pattern: Tensor, layer: int, facts: Facts, observer: Observer) -> None:
    length, span = pattern.shape[-1], facts.attention[layer]
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        rows = pattern[:, :, first:last]
        inside = visible(range(first, last), range(length), span, device=pattern.device)
        if not (most := rows.abs().masked_fill(inside, 0.0).max()) <= OUTSIDE:  # not so for NaN either
            raise ValueError(
                f"layer {layer} of {facts.name} puts attention of up to {most:.1e} outside its span ({span}): expected "
                "a causal model with the windows of its config, and no hook that edits the pattern beyond them"
            )
        start = 0 if span.window is None else max(0, first - span.window + 1)
        observer(PatternBlock(layer=layer, first_query=first, first_key=start, pattern=rows[..., start:last]))
