"""Random networks of the four families, and of GPT-2 with Stanford's attention, in half precision and in float32.

Their products q k^T have a chosen size.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPTNeoConfig, GPTNeoXConfig, PreTrainedModel
from transformers.models.auto import AutoModelForCausalLM

import neolens
from neolens.prompts import PromptPairs, repeated

FAMILIES = ("gpt2", "gpt2-stanford", "gpt-neo", "pythia", "neox-sequential")
ROTARY = ("pythia", "neox-sequential")
DTYPES = ("float16", "bfloat16")

PRODUCTS = (0, 3_000, 20_000, 50_000)
"""Largest q k^T before the scale; 0 leaves the weights as they are drawn."""
OVERFLOW = 100_000
"""Beyond the largest finite float16, 65,504."""

LAYERS, HEADS, D_HEAD = 3, 4, 16
CONTEXT, VOCAB, WINDOW, REPEAT = 32, 61, 4, 6


@dataclass(frozen=True)
class Case:
    """One model: a family, a dtype, the size of its products, and whether it was cast after loading."""

    family: str
    dtype: str
    product: int = 0
    cast: bool = False

    def __str__(self) -> str:
        return f"{self.family} {self.dtype}{', cast' if self.cast else ''}, product {self.product:,}"


def cases() -> Iterator[Case]:
    """Every model that is measured: loaded in half precision with every product, cast with the first and the last."""
    for family, dtype, product in itertools.product(FAMILIES, DTYPES, (*PRODUCTS, OVERFLOW)):
        yield Case(family, dtype, product)
        if product in (PRODUCTS[0], PRODUCTS[-1]):
            yield Case(family, dtype, product, cast=True)


def models(case: Case) -> tuple[Any, Any]:
    """The model of a case in half precision, and the same half-rounded weights in float32."""
    return loaded(random_network(case.family, case.product), case.dtype, cast=case.cast)


def loaded(network: PreTrainedModel, dtype: str, *, cast: bool = False) -> tuple[Any, Any]:
    """A network in half precision, and its half-rounded weights in float32.

    Args:
        cast: load in float32 and then cast, which also rounds the frequencies of a rotation.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        network.to(getattr(torch, dtype)).save_pretrained(folder)
        single = neolens.load(folder, device="cpu")
        half: Any = neolens.load(folder, device="cpu", dtype="float32" if cast else dtype)
    if cast:
        half = half.half() if dtype == "float16" else half.bfloat16()
    return half, single


def random_network(family: str, product: int = 0, seed: int = 0) -> PreTrainedModel:
    """A network with every weight random, whose largest q k^T is about `product`."""
    generator = torch.Generator().manual_seed(seed)
    network = AutoModelForCausalLM.from_config(_config(family), attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            embedding = any(part in name for part in ("wte", "wpe", "embed_in"))
            std = 0.3 if weight.ndim == 1 else 0.7 if embedding else 0.1 if "_proj" in name else 0.2
            norm_weight = weight.ndim == 1 and name.endswith("weight")
            weight.copy_(std * torch.randn(weight.shape, generator=generator) + norm_weight)
        if product:
            _enlarge_products(network, family, product)
    return network


def prompts(count: int = 8) -> Tensor:
    """[0, r_1..r_n, r_1..r_n] of random tokens."""
    return repeated(range(1, VOCAB), REPEAT, bos=0, prompts=count)


def long_prompts(count: int = 8) -> Tensor:
    """Random tokens, more of them than the context holds."""
    return torch.randint(1, VOCAB, (count, CONTEXT + 8), generator=torch.Generator().manual_seed(0))


def pairs(tokens: Tensor) -> PromptPairs:
    """The prompts, and the same with another token at position 4."""
    corrupted = tokens.clone()
    corrupted[:, 4] = corrupted[:, 4] % (VOCAB - 1) + 1
    return PromptPairs.from_tokens(tokens, corrupted, [1] * len(tokens), [2] * len(tokens))


def _config(family: str) -> Any:
    sizes: dict[str, Any] = dict(vocab_size=VOCAB, bos_token_id=0, eos_token_id=0)
    if family.startswith("gpt2"):
        if family == "gpt2-stanford":
            sizes |= dict(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True)
        return GPT2Config(n_layer=LAYERS, n_head=HEADS, n_embd=HEADS * D_HEAD, n_positions=CONTEXT, **sizes)
    sizes |= dict(hidden_size=HEADS * D_HEAD, max_position_embeddings=CONTEXT)
    if family == "gpt-neo":
        kinds = [[["global", "local"], 1], [["global"], 1]]
        return GPTNeoConfig(num_layers=LAYERS, num_heads=HEADS, attention_types=kinds, window_size=WINDOW, **sizes)
    parallel = family == "pythia"
    sizes |= dict(num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=4 * HEADS * D_HEAD)
    return GPTNeoXConfig(rotary_pct=0.25 if parallel else 0.5, use_parallel_residual=parallel, **sizes)


def _enlarge_products(network: Any, family: str, product: int) -> None:
    """Biases of q and k in all dimensions that are not rotated, so that products are negative in even layers and
    positive in odd ones. GPT-Neo has no such biases: its matrices are scaled, by the product over the largest product
    that they give as they are drawn, about 9."""
    for layer in range(LAYERS):
        if family == "gpt-neo":
            attention = network.transformer.h[layer].attn.attention
            for linear in (attention.q_proj, attention.k_proj):
                linear.weight.mul_((product / 9) ** 0.5)
            continue
        if family.startswith("gpt2"):
            q, k, _ = network.transformer.h[layer].attn.c_attn.bias.view(3, HEADS, D_HEAD)
        else:
            attention = network.gpt_neox.layers[layer].attention
            bias = attention.query_key_value.bias.view(HEADS, 3, D_HEAD)
            q, k = bias[:, 0, attention.rotary_ndims :], bias[:, 1, attention.rotary_ndims :]
        size = (product / q.shape[-1]) ** 0.5
        q += size
        k += size if layer % 2 else -size
