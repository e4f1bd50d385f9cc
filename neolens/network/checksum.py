"""A hash of a model's weights, so that a result says which numbers it was computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from typing import Any

import torch
import xxhash
from jaxtyping import Int, Shaped
from torch import Tensor

from neolens.network.weights import weights_of


def fingerprint(model: Any) -> str:
    """Sixteen hexadecimal digits that change with any weight's value, shape or dtype (BLAKE2b).

    The hash covers the weights that the forward pass uses, whatever file they came from; of an architecture that
    neolens does not know, all named parameters in the order of their names. It is kept with the model, and computed
    anew when a weight's place, version or checksum has changed.
    """
    tensors = _weights(model)
    places = _places(tensors)
    key = places, [_trace(tensor) for tensor in dict(zip(places, tensors)).values()]
    kept = getattr(model, "_neolens_fingerprint", None)
    if kept is None or kept[0] != key:
        kept = (key, _hash(tensors))
        object.__setattr__(model, "_neolens_fingerprint", kept)
    return kept[1]


def _weights(model: Any) -> list[Tensor]:
    try:
        return list(_tensors(weights_of(model)))
    except ValueError:  # not one of the three families
        return [weight for _, weight in sorted(model.named_parameters(), key=lambda named: named[0])]


def _tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, tuple):
        for item in part:
            yield from _tensors(item)
    elif is_dataclass(part):
        for name in part.__dataclass_fields__:
            if name != "anatomy":
                yield from _tensors(getattr(part, name))


def _places(tensors: list[Tensor]) -> list[tuple[int, torch.Size, tuple[int, ...]]]:
    """Where each tensor lies; tied weights lie in one place, and are read once."""
    return [(tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in tensors]


def _trace(tensor: Tensor) -> tuple[int, int, torch.dtype]:
    """What shows that a weight was edited, at a fraction of the cost of `_hash`: an edit through `.data` leaves the
    place and the version as they were."""
    version = -1 if tensor.is_inference() else tensor._version
    on_cpu = tensor.device.type == "cpu"
    checksum = xxhash.xxh3_64_intdigest(_bytes(tensor)) if on_cpu else _multilinear(_stored(tensor))
    return version, checksum, tensor.dtype


def _stored(tensor: Tensor) -> Shaped[Tensor, " value"]:
    """The values of a tensor, or of its transpose where that is how they are stored, which is not copied."""
    return (tensor if tensor.is_contiguous() else tensor.T).detach().contiguous().flatten()


def _bytes(tensor: Tensor) -> Any:
    return _stored(tensor).cpu().view(torch.uint8).numpy().data


def _multilinear(values: Shaped[Tensor, " value"]) -> int:
    """sum m_i w_i modulo 2^64 of each block of words, m_i random odd numbers: another for other words or another order
    (multilinear hashing, Lemire and Kaser 2014, arXiv 1202.4961), hashed together. On a GPU, where the words are."""
    words = values.view({8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[values.element_size()])
    factors = _factors(words.device)
    return hash(tuple(int((block * factors[: len(block)]).sum()) for block in words.split(len(factors))))


@cache
def _factors(device: torch.device) -> Int[Tensor, " word"]:
    draw = torch.Generator().manual_seed(0)
    return (torch.randint(-(2**62), 2**62, (2**22,), generator=draw) | 1).to(device)


def _hash(tensors: list[Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes(tensor.contiguous()))
    return digest.hexdigest()
