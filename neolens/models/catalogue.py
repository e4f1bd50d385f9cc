"""The names neolens knows: public checkpoints with what their config.json holds, so that anatomy needs no network.

Values are those of the released config files (openai-community, stanford-crfm, EleutherAI, roneneldan on the Hugging
Face hub). Note that GPT-Neo's layer 0 is global and layer 1 local. Training data: Radford et al. 2019 (WebText),
Karamcheti et al. 2021 (OpenWebText; five seeds of GPT-2 small), Black et al. 2021 and Biderman et al. 2023 (the Pile;
"deduped" without near-duplicates), Eldan and Li 2023 (TinyStories).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from neolens.checks import check_text

GPT2_TOKENIZER = "GPT-2 byte-level BPE, 50,257 entries"
NEOX_TOKENIZER = "GPT-NeoX-20B byte-level BPE, 50,277 entries"


@dataclass(frozen=True)
class Entry:
    """One catalogue name: where its weights are on the hub, and what its config.json says.

    `has_checkpoints`: the hub has a revision for each of many training steps.
    """

    name: str
    hub_id: str
    config: dict[str, Any]
    data: str
    tokenizer: str
    has_checkpoints: bool = False


#     name          layers heads width
_GPT2 = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
    "distilgpt2": (6, 12, 768),
}
# Five trainings of GPT-2 small that differ in their seed, the number at the end of the hub name.
_STANFORD = {
    "stanford-gpt2-small-a": "alias-gpt2-small-x21",
    "stanford-gpt2-small-b": "battlestar-gpt2-small-x49",
    "stanford-gpt2-small-c": "caprica-gpt2-small-x81",
    "stanford-gpt2-small-d": "darkmatter-gpt2-small-x343",
    "stanford-gpt2-small-e": "expanse-gpt2-small-x777",
}
_GPT_NEO = {
    "gpt-neo-125M": (12, 12, 768),
    "gpt-neo-1.3B": (24, 16, 2048),
    "gpt-neo-2.7B": (32, 20, 2560),
    "TinyStories-1M": (8, 16, 64),
    "TinyStories-3M": (8, 16, 128),
    "TinyStories-8M": (8, 16, 256),
    "TinyStories-28M": (8, 16, 512),
    "TinyStories-33M": (4, 16, 768),
}
#     name     layers heads width vocabulary
_PYTHIA = {
    "pythia-14m": (6, 4, 128, 50304),
    "pythia-31m": (6, 8, 256, 50304),
    "pythia-70m": (6, 8, 512, 50304),
    "pythia-160m": (12, 12, 768, 50304),
    "pythia-410m": (24, 16, 1024, 50304),
    "pythia-1b": (16, 8, 2048, 50304),
    "pythia-1.4b": (24, 16, 2048, 50304),
    "pythia-2.8b": (32, 32, 2560, 50304),
    "pythia-6.9b": (32, 32, 4096, 50432),
    "pythia-12b": (36, 40, 5120, 50688),
}


def _gpt2_entry(name: str, layers: int, heads: int, width: int) -> Entry:
    owner = "distilbert" if name.startswith("distil") else "openai-community"
    config = {"model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": width}
    data = "OpenWebText (distilled from gpt2)" if name.startswith("distil") else "WebText"
    return Entry(name, f"{owner}/{name}", config, data, GPT2_TOKENIZER)


def _stanford_entry(name: str, hub_name: str) -> Entry:
    flags = {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True}
    config = {"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768, **flags}
    return Entry(name, f"stanford-crfm/{hub_name}", config, "OpenWebText", GPT2_TOKENIZER, has_checkpoints=True)


def _gpt_neo_entry(name: str, layers: int, heads: int, width: int) -> Entry:
    config = {
        "model_type": "gpt_neo",
        "num_layers": layers,
        "num_heads": heads,
        "hidden_size": width,
        "max_position_embeddings": 2048,
        "vocab_size": 50257,
        "window_size": 256,
        "attention_types": [[["global", "local"], layers // 2]],
    }
    if name.startswith("TinyStories"):
        return Entry(name, f"roneneldan/{name}", config, "TinyStories", GPT2_TOKENIZER)
    hub_name = name.replace("125M", "125m")
    return Entry(name, f"EleutherAI/{hub_name}", config, "the Pile", GPT2_TOKENIZER)


def _pythia_entry(name: str, layers: int, heads: int, width: int, d_vocab: int) -> Entry:
    config = {
        "model_type": "gpt_neox",
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 2048,
        "vocab_size": d_vocab,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "use_parallel_residual": True,
        "eos_token_id": 0,
    }
    data = "the Pile, deduplicated" if name.endswith("-deduped") else "the Pile"
    return Entry(name, f"EleutherAI/{name}", config, data, NEOX_TOKENIZER, has_checkpoints=True)


@cache
def catalogue() -> dict[str, Entry]:
    """Every public name and its entry, in the order in which they are listed."""
    entries = [_gpt2_entry(name, *shape) for name, shape in _GPT2.items()]
    entries += [_stanford_entry(name, hub_name) for name, hub_name in _STANFORD.items()]
    entries += [_gpt_neo_entry(name, *shape) for name, shape in _GPT_NEO.items()]
    for name, shape in _PYTHIA.items():
        entries += [_pythia_entry(name, *shape), _pythia_entry(f"{name}-deduped", *shape)]
    return {entry.name: entry for entry in entries}


@cache
def _by_lower_name() -> dict[str, Entry]:
    names = {entry.name.lower(): entry for entry in catalogue().values()}
    return names | {entry.hub_id.lower(): entry for entry in catalogue().values()}


def find(name: str) -> Entry | None:
    """The entry of a catalogue name or of its hub id, whatever the case of its letters; None if there is none."""
    return _by_lower_name().get(check_text(name, "name", empty=True, example="gpt2").lower())
