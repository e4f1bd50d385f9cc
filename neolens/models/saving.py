"""A model from `neolens.load`, fine-tuned perhaps, as an ordinary Hugging Face folder.

TransformerLens splits the joint projection of q, k and v, and neolens removes the joint one; here it is put together
again from the three, number by number, so that `AutoModelForCausalLM` and `neolens.load` read back the same model.
"""

from __future__ import annotations

import copy
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neolens.checks import shown
from neolens.files import writable_folder, write_errors
from neolens.models.anatomy import Anatomy
from neolens.models.supported import first_line, quiet_transformers

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from neolens.models.bridge import Bridge


def save(model: Any, folder: str | Path) -> Path:
    """Write the model's weights, config and tokenizer as a folder that `from_pretrained` and `neolens.load` read.

    The logits of what is read back are equal to the bit, in the dtype of the weights. Nothing is left of a folder that
    cannot be written whole.

    Args:
        model: from `neolens.load`.
        folder: does not exist yet, or is empty.

    Returns:
        The folder.

    Raises:
        TypeError: another model.
        ValueError: a folder that holds files, or a model whose weights no Hugging Face class describes.
    """
    from neolens.models.bridge import Bridge

    if not isinstance(model, Bridge):
        raise TypeError(f"models.save takes a model from neolens.load, got {shown(model)}")
    path = _new_folder(folder)
    plain = hugging_face_model(model)
    with write_errors(path), _beside(path) as new, quiet_transformers():
        plain.save_pretrained(new)
        if model.tokenizer is not None:
            _as_read(model.tokenizer).save_pretrained(new)
    return path


def _new_folder(folder: str | Path) -> Path:
    """The path of a folder that can be created, or that is empty.

    Raises:
        TypeError: not a path.
        ValueError: it holds files, or cannot be written to.
    """
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"folder {shown(folder)}: expected the path of a new folder")
    try:
        path = writable_folder(Path(folder).expanduser() if str(folder).startswith("~") else folder)
        is_full = path.exists() and any(path.iterdir())
    except (OSError, RuntimeError) as error:  # a name that is too long, a user that does not exist
        raise ValueError(
            f"folder {shown(str(folder))} cannot be written to ({first_line(error):.40}): give another one"
        ) from error
    if is_full:
        raise ValueError(f"folder {str(path)!r} exists and is not empty: give another one, or empty it")
    return path


def hugging_face_model(model: Bridge) -> PreTrainedModel:
    """The plain Hugging Face model with the weights of a bridge, which it shares but for joint projections.

    Raises:
        ValueError: weights that TransformerLens has folded, `neolens.what_if` in force, or changed modules.
    """
    import torch

    from neolens.models.modifications import modified_modules

    name, state = model.anatomy.name, model._neolens_state
    if model.compatibility_mode or getattr(model, "_weights_processed", False):
        raise ValueError(f"{name} has weights folded by TransformerLens: save it before enable_compatibility_mode")
    if model.anatomy != state.loaded:
        raise ValueError(f"{name} is within neolens.what_if, which a folder cannot hold: save it outside the block")
    original = model.original_model
    config = copy.deepcopy(original.config)
    config.tie_word_embeddings = model.anatomy.tied_embedding
    with torch.device("meta"):
        plain = type(original)(config)
    weights = _joined(model, original)
    expected = {key for key, _ in plain.named_parameters(remove_duplicate=False)}
    if changed := modified_modules(model, state.structure) or sorted(expected - weights.keys()):
        raise ValueError(
            f"{name} has a changed module, {changed[0]}: merge adapters, remove parametrizations and torch hooks first"
        )
    plain.load_state_dict({key: weights[key].detach() for key in expected}, assign=True, strict=False)
    plain.tie_weights()
    for key, weight in plain.named_parameters():
        weight.requires_grad_(weights[key].requires_grad)
    buffers = {key.replace("._original_component", ""): value for key, value in original.named_buffers()}
    for key, _ in list(plain.named_buffers()):
        path, _, last = key.rpartition(".")
        plain.get_submodule(path)._buffers[last] = buffers[key]
    plain.generation_config = copy.deepcopy(original.generation_config)
    return plain


def pickled(model: Bridge) -> tuple[Any, ...]:
    """What `pickle` writes of a model: the plain Hugging Face model, from which the bridge is built anew.

    Raises:
        ValueError: as `hugging_face_model`, or hooks, which are functions of this process.
    """
    from neolens.models.modifications import hooked_points

    if hooks := hooked_points(model):
        raise ValueError(f"{model.anatomy.name} has a hook at {hooks[0]}: pickle it after model.reset_hooks()")
    settings = {
        "switches": sorted(model.switches),
        "training": model.training,
        "default_prepend_bos": model.cfg.default_prepend_bos,
    }
    return _built_anew, (hugging_face_model(model), model.anatomy, model.tokenizer, settings)


def _built_anew(plain: PreTrainedModel, anatomy: Anatomy, tokenizer: Any, settings: dict[str, Any]) -> Bridge:
    from neolens.models.building import build_bridge

    bridge = build_bridge(plain, anatomy, tokenizer=tokenizer)
    for switch in settings["switches"]:
        getattr(bridge, f"set_{switch}")(True)
    bridge.cfg.default_prepend_bos = settings["default_prepend_bos"]
    return bridge.train(settings["training"])


def _joined(model: Bridge, original: PreTrainedModel) -> dict[str, Tensor]:
    """The weights by Hugging Face's names; also those of TransformerLens's, which no config knows."""
    import torch

    weights = {
        key.replace("._original_component", ""): weight
        for key, weight in original.named_parameters(remove_duplicate=False)
    }
    heads = model.anatomy.heads
    for layer, block in enumerate(model.blocks):
        if "qkv" not in block.attn._modules:
            continue
        for kind in ("weight", "bias"):
            parts = [getattr(getattr(block.attn, part), kind) for part in "qkv"]
            if model.anatomy.family == "gpt2":  # Conv1D: [d_model, 3 d_model]
                joint = torch.cat([part.T if kind == "weight" else part for part in parts], dim=-1)
                weights[f"transformer.h.{layer}.attn.c_attn.{kind}"] = joint
            else:  # [head, (q, k, v), d_head] in rows
                rows = [part.unflatten(0, (heads, -1)) for part in parts]
                joint = torch.cat(rows, dim=1).flatten(0, 1)
                weights[f"gpt_neox.layers.{layer}.attention.query_key_value.{kind}"] = joint
    return weights


def _as_read(tokenizer: Any) -> Any:
    """A copy of the tokenizer without the tokens that loading has set."""
    copied = copy.deepcopy(tokenizer)
    for name in getattr(tokenizer, "neolens_set", {}):
        setattr(copied, name, None)
    return copied


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, renamed to it at the end of the block, or removed if the block fails."""
    folder = Path(os.path.abspath(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name[:50]}.{uuid.uuid4().hex}.partial")
    try:
        yield new
        os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
