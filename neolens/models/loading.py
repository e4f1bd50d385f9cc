"""From a name to facts (`anatomy`) and to a hooked model (`load`).

`load` checks everything that can be checked before it builds anything: the name, the config, the weight files.
It makes no copy of the weights beyond those that TransformerLens makes (GPT-2 and Pythia hold q, k and v jointly,
and TransformerLens splits them).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neolens.checks import check_list, check_text, shown
from neolens.models.anatomy import Anatomy
from neolens.models.config_facts import from_config
from neolens.models.config_values import check_values
from neolens.models.devices import check_device
from neolens.models.sources import Source, resolve
from neolens.models.supported import ignored_fields, refuse_unsupported, supported_config
from neolens.models.tokenizers import read_tokenizer

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PretrainedConfig, PreTrainedModel


def anatomy(model_or_name: Any, *, revision: str | None = None, ignore_fields: str | Sequence[str] = ()) -> Anatomy:
    """The architecture of a model, read from its config; needs no weights, and for catalogue names no network.

    Args:
        model_or_name: a model from `neolens.load` (or any bridge or Hugging Face model of the three families), a
            catalogue name, a hub id or a folder.
        revision: branch, tag or commit on the hub.
        ignore_fields: as in `load`.

    Raises:
        ValueError: no such model, or an architecture or config field that neolens does not handle.
    """
    ignore_fields = _listed(ignore_fields)
    if isinstance(model_or_name, (str, Path)):
        source = resolve(model_or_name, revision)
        config = supported_config(source.config, source.name, ignore_fields)
        return _source_anatomy(source, config, ignored_fields(config, source.config, ignore_fields))
    from transformers import PreTrainedModel

    _check_no_revision(revision)

    known = getattr(model_or_name, "anatomy", None)
    if isinstance(known, Anatomy):
        return known
    config = getattr(getattr(model_or_name, "original_model", model_or_name), "config", None)
    if config is None or not hasattr(config, "model_type") or isinstance(model_or_name, type):
        raise TypeError(f"expected a model or a model's name, got {shown(model_or_name)}")
    name = getattr(config, "_name_or_path", "") or type(model_or_name).__name__
    name = Path(name).absolute().name if Path(name).is_dir() else name
    if config.model_type not in ("gpt2", "gpt_neo", "gpt_neox"):
        supported_config({"model_type": config.model_type}, name)
    raw = config.to_dict()
    check_values(raw, config.model_type, config.attribute_map, name)
    refuse_unsupported(config, raw, name, ignore_fields)
    described = from_config(config, name, ignored_fields=ignored_fields(config, raw, ignore_fields))
    whole = isinstance(model_or_name, PreTrainedModel) and model_or_name.get_output_embeddings() is not None
    return as_loaded(described, model_or_name) if whole else described


def fetch(name: str | Path, *, revision: str | None = None, ignore_fields: str | Sequence[str] = ()) -> Path:
    """The folder of a model, its weights fetched into the cache if they are not there yet; arguments as in `load`.

    Raises:
        ValueError: no such model, not handled, without weights or with others than its config's, or the hub cannot be
            reached.
    """
    from neolens.models.weight_files import check_weight_files

    source = resolve(name, revision)
    config = supported_config(source.config, source.name, _listed(ignore_fields))
    check_weight_files(source.folder, config, source.name)
    return source.folder


def load(
    name: str | Path | PreTrainedModel,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    ignore_fields: str | Sequence[str] = (),
    tokenizer: Any = None,
) -> TransformerBridge:
    """A TransformerLens `TransformerBridge` of the model, with hooks that act.

    Args:
        name: a catalogue name (`gpt2`, `gpt-neo-125M`, `pythia-160m`, `lab/gpt-neo`; letter case does not matter),
            a hub id, or a folder saved by `save_pretrained`, with or without a tokenizer. `LABEL=NAME` gives the model
            a label of its own; by default it is the folder's last path component, or the name. Also a Hugging Face
            model in memory (`GPT2LMHeadModel`, `GPTNeoForCausalLM`, `GPTNeoXForCausalLM`), whose weights are copied:
            neither model changes with the other.
        revision: branch, tag or commit on the hub (Pythia: `step0` to `step143000`; Stanford's GPT-2: `checkpoint-10`
            to `checkpoint-400000`).
        device: a torch device; by default the GPU if there is one, else the CPU; for a model in memory, its own.
        dtype: of the weights, as a `torch.dtype` or its name; float32 by default; for a model in memory, its own.
        ignore_fields: fields of config.json that neolens does not know and that change nothing. The anatomy and every
            result name those that the config has.
        tokenizer: a Hugging Face tokenizer in place of the folder's; False for none. `model(text)` puts BOS first, in
            all families, or the end-of-text token where there is no BOS; where there is neither, nothing.

    Returns:
        The model in evaluation mode. `model.anatomy` holds its facts; logits are those of Hugging Face's eager
        attention, to the bit.

    Raises:
        ValueError: no such model, or not handled, or weights that are missing, truncated or not finite; a default dtype
            of torch other than float32.
    """
    from neolens.models.ambient import plain_torch
    from neolens.models.building import build_bridge
    from neolens.models.weights import read_model

    if not isinstance(name, (str, Path)):
        return _load_in_memory(name, revision, device, dtype, _listed(ignore_fields), tokenizer)
    dtype, device, fields = _dtype(dtype), check_device(device), _listed(ignore_fields)
    chosen = _copied(tokenizer)
    source = resolve(name, revision)
    supported_config(source.config, source.name, fields)
    folder = source.folder
    raw = source.read_config(folder)
    config = supported_config(raw, source.name, fields)
    with plain_torch():
        model = read_model(folder, config, dtype, source.name).to(device)
        described = as_loaded(_source_anatomy(source, config, ignored_fields(config, raw, fields)), model)
        chosen = read_tokenizer(folder, source.name) if tokenizer is None else chosen
        return build_bridge(model, described, tokenizer=chosen)


def _load_in_memory(
    model: Any,
    revision: str | None,
    device: str | torch.device | None,
    dtype: torch.dtype | str | None,
    ignore_fields: tuple[str, ...],
    tokenizer: Any,
) -> TransformerBridge:
    """A bridge of a copy of a Hugging Face model."""
    from transformers import PreTrainedModel

    from neolens.models.ambient import plain_torch
    from neolens.models.building import build_bridge
    from neolens.models.weights import copied_model

    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f"load takes a model's name, its folder or a Hugging Face model, got {type(model).__name__}: merge an "
            "adapter first (merge_and_unload of peft)"
        )
    described = anatomy(model, revision=revision, ignore_fields=ignore_fields)
    dtype = _dtype(model.dtype if dtype is None else dtype)
    device = check_device(model.device if device is None else device)
    chosen = _copied(tokenizer)
    with plain_torch():
        copied = copied_model(model, described.name).to(device=device, dtype=dtype)
        return build_bridge(copied, described, tokenizer=chosen)


def _check_no_revision(revision: str | None) -> None:
    if revision is not None:
        raise ValueError(f"a model in memory has no revision {shown(revision)}: leave it out")


def _copied(tokenizer: Any) -> Any | None:
    """The caller's tokenizer, which loading does not change; None for False."""
    if tokenizer is None or tokenizer is False:
        return None
    if isinstance(tokenizer, type) or not callable(tokenizer) or not hasattr(tokenizer, "convert_ids_to_tokens"):
        raise TypeError(
            f"tokenizer is a {type(tokenizer).__name__}: expected a Hugging Face tokenizer, or False for none"
        )
    return copy.deepcopy(tokenizer)


def as_loaded(described: Anatomy, model: PreTrainedModel) -> Anatomy:
    """The anatomy with what the weights say where the config may say something else: whether token embedding and
    unembedding are one matrix, and the numbers of parameters."""
    embeddings = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    if described.position.kind == "absolute":
        embeddings.append(model.transformer.wpe.weight)
    total = sum(weight.numel() for weight in model.parameters())
    outside = sum(weight.numel() for weight in {id(weight): weight for weight in embeddings}.values())
    return replace(
        described,
        tied_embedding=embeddings[0] is embeddings[1],
        parameters=total,
        parameters_without_embeddings=total - outside,
    )


def _listed(ignore_fields: str | Sequence[str]) -> tuple[str, ...]:
    fields = [ignore_fields] if isinstance(ignore_fields, str) else ignore_fields
    fields = check_list(fields, "ignore_fields", "names of config fields", example="['unheard_of']")
    return tuple(check_text(field, "ignore_fields: field", example="unheard_of") for field in fields)


def _source_anatomy(source: Source, config: PretrainedConfig, ignored: tuple[str, ...]) -> Anatomy:
    entry = source.entry
    return from_config(
        config,
        source.label if source.revision is None else f"{source.label}@{source.revision}",
        data="the lab's synthetic language" if source.name.startswith("lab/") else entry.data if entry else None,
        tokenizer="the lab's words" if source.name.startswith("lab/") else entry.tokenizer if entry else None,
        ignored_fields=ignored,
    )


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    import torch

    names = ("float32", "bfloat16", "float16", "float64")
    value = torch.float32 if dtype is None else getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(value, torch.dtype) or str(value).removeprefix("torch.") not in names:
        raise ValueError(f"dtype {shown(dtype)} is not handled: expected float32, bfloat16, float16 or float64")
    return value
