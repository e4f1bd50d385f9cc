"""What the weight files of a folder hold, read from their headers before any weight: names, shapes and dtypes.

Where the shapes contradict config.json, the field is named with the value that would fit: it may be the config or the
file that is wrong.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neolens.files import read_json
from neolens.models.supported import first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Put before names by torch.compile, by DataParallel and by Lightning.
KEY_MAPPING = {r"^(?:(?:_orig_mod|module)\.)*(?:model\.)?(?:(?:_orig_mod|module)\.)*(?=\w)": ""}

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_FLOATING = {"F64", "F32", "F16", "BF16"}
_LAYER = re.compile(r"(?:h|layers)\.(\d+)\.")

# Family -> weight -> the config fields that are its dimensions; without the model's own prefix.
_DIMENSIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "gpt2": {
        "wte.weight": ("vocab_size", "n_embd"),
        "wpe.weight": ("n_positions", "n_embd"),
        "h.0.mlp.c_fc.weight": ("n_embd", "n_inner"),
    },
    "gpt_neo": {
        "wte.weight": ("vocab_size", "hidden_size"),
        "wpe.weight": ("max_position_embeddings", "hidden_size"),
        "h.0.mlp.c_fc.weight": ("intermediate_size", "hidden_size"),
    },
    "gpt_neox": {
        "embed_in.weight": ("vocab_size", "hidden_size"),
        "layers.0.mlp.dense_h_to_4h.weight": ("intermediate_size", "hidden_size"),
    },
}


def check_weight_files(folder: Path, config: PretrainedConfig, name: str) -> None:
    """Check that the folder has weights, that their headers can be read, and that they are those of the config.

    Raises:
        ValueError: none, a damaged file, numbers that are not floating point, or sizes other than the config's.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _files(folder, name):
        try:
            shapes |= _safetensors_shapes(path, name) if path.suffix == ".safetensors" else _pickled_shapes(path)
        except Exception as error:  # safetensors, pickle and torch each raise errors of their own kinds
            if isinstance(error, ValueError) and str(error).startswith(name):
                raise
            raise unreadable(name, path.name, error) from error
    _check_sizes(shapes, config, name)


def unreadable(name: str, file: str, error: Exception) -> ValueError:
    """The error about weights that another library does not read."""
    is_pickle = "Weights only load failed" in str(error)
    reason = "torch.save has not written it, or not tensors alone" if is_pickle else first_line(error)
    return ValueError(
        f"{name}: the weights cannot be read from {file} ({reason}): "
        "the file is truncated, damaged or of another model; fetch or save it anew"
    )


def _files(folder: Path, name: str) -> list[Path]:
    """The files that transformers reads: one, or the shards that an index lists."""
    for file in WEIGHT_FILES:
        if (folder / file).is_file():
            return [folder / file]
        index = folder / f"{file}.index.json"
        if index.is_file():
            what = "the JSON object that save_pretrained writes; fetch or save the folder anew"
            shards = read_json(index, what).get("weight_map")
            if (
                not shards
                or not isinstance(shards, dict)
                or not all(isinstance(shard, str) for shard in shards.values())
            ):
                raise ValueError(f"{name}: {index.name} has no weight_map from weights to files: save the folder anew")
            paths = [folder / shard for shard in sorted({*shards.values()})]
            if missing := [path.name for path in paths if not path.is_file()]:
                raise ValueError(f"{name}: {missing[0]!r} is not in the folder, but {index.name} lists it: fetch it")
            return paths
    found = sorted({path.name for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind)} - {*WEIGHT_FILES})
    there = f", and not {found[0]}" if found else ""
    raise ValueError(f"{name}: no weights in the folder: expected model.safetensors beside config.json{there}")


def _safetensors_shapes(path: Path, name: str) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    shapes = {}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118
            part = file.get_slice(key)
            shapes[key] = tuple(part.get_shape())
            if part.get_dtype() not in _FLOATING and not key.endswith(("bias", "masked_bias")):
                raise ValueError(
                    f"{name}: weight {key} in {path.name} has dtype {part.get_dtype()}: expected one of "
                    f"{', '.join(sorted(_FLOATING))}; the file is damaged or quantized, save it anew"
                )
    return shapes


def _pickled_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    import torch

    weights: Any = torch.load(path, map_location="meta", weights_only=True)
    return {str(key): tuple(value.shape) for key, value in weights.items() if hasattr(value, "shape")}


def _check_sizes(shapes: dict[str, tuple[int, ...]], config: PretrainedConfig, name: str) -> None:
    """Check the number of layers and the dimensions of the weights against the config."""
    (pattern,) = KEY_MAPPING
    keys = {re.sub(r"^(transformer|gpt_neox)\.", "", re.sub(pattern, "", key)): key for key in shapes}
    for short, fields in _DIMENSIONS[config.model_type].items():
        shape = shapes.get(keys.get(short, ""), ())
        for field, size in zip(fields, shape, strict=len(shape) == len(fields)):
            value = getattr(config, field)
            expected = 4 * config.hidden_size if value is None else value
            if size != expected:
                raise ValueError(
                    f"{name}: config field {field} = {value}, but weight {keys[short]} has shape {[*shape]}: correct "
                    f"config.json ({field} = {size}) if the weights are right, else fetch or save the folder anew"
                )
    layers = {int(match[1]): key for short, key in sorted(keys.items()) if (match := _LAYER.match(short))}
    count, expected = max(layers, default=-1) + 1, config.num_hidden_layers
    if count != expected and layers.keys() == {*range(count)}:
        field = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
        example = f" (unexpected weight {layers[max(layers)]})" if count > expected else ""
        raise ValueError(
            f"{name}: config field {field} = {expected}, but the weights have {count} layers{example}: correct "
            f"config.json ({field} = {count}) if the weights are right, else fetch or save the folder anew"
        )
