"""From weight files, or from a model in memory, to a Hugging Face model with every weight read and none made up.

Checkpoints come with more than the language model: heads of a training with rewards or of another task, prefixes that
a wrapper put before every name, buffers of older versions. Those are known and skipped; any other name is refused.
"""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from neolens.checks import shown
from neolens.files import read_json
from neolens.models.config_values import bad_value, field_to_blame
from neolens.models.supported import first_line, quiet_transformers
from neolens.models.weight_files import KEY_MAPPING, check_weight_files, unreadable

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

# Buffers that transformers has stopped storing; they hold no learned number.
_OLD_BUFFERS = re.compile(r"(^|\.)(attn|attention)\.(bias|masked_bias)$|rotary_emb\.inv_freq$")
# Heads besides the language model's: of trl, of GPT2DoubleHeadsModel, of classifiers of texts and tokens, of answers.
_OTHER_HEADS = re.compile(r"^(v_head|value_head|multiple_choice_head|score|classifier|qa_outputs|reward_head)\.")


def read_model(folder: Path, config: PretrainedConfig, dtype: torch.dtype, name: str) -> PreTrainedModel:
    """The Hugging Face model of a folder in evaluation mode.

    Raises:
        ValueError: no weights, an adapter, weights that are missing, of another shape or unknown, or a damaged file.
    """
    from transformers import AutoModelForCausalLM

    refuse_adapter(folder, name)
    check_weight_files(folder, config, name)
    _check_generation(folder, name)
    try:
        with quiet_transformers():
            model, report = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation="eager",
                trust_remote_code=False,
                weights_only=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report
                key_mapping=KEY_MAPPING,
            )
    except Exception as error:  # safetensors, pickle and torch each raise errors of their own kinds
        _check_generation_fields(config, name)
        raise unreadable(name, "the folder", error) from error
    _check_report(report, name)
    refuse_not_finite(model, name)
    return model.eval()


def _check_generation(folder: Path, name: str) -> None:
    """Check the settings of generation, which transformers reads with the weights, and blames these for."""
    from transformers import GenerationConfig

    path = folder / "generation_config.json"
    if path.is_file():
        settings = read_json(path, "the JSON object that save_pretrained writes; correct or delete the file")
        try:
            GenerationConfig.from_dict(dict(settings))
        except Exception as error:  # of any kind, and without the field's name
            field = field_to_blame(GenerationConfig.from_dict, settings)
            what = "" if field is None else f": field {field} = {shown(settings[field])}"
            raise ValueError(f"{path}{what} cannot be read ({first_line(error)}): correct or delete it") from error


def _check_generation_fields(config: PretrainedConfig, name: str) -> None:
    """Check the settings of generation in config.json, after transformers has refused something."""
    from transformers import GenerationConfig

    known = GenerationConfig().to_dict()
    settings = {field: value for field, value in config.to_dict().items() if field in known}
    try:
        GenerationConfig.from_dict(dict(settings))
    except Exception as error:  # of any kind, and without the field's name
        if field := field_to_blame(GenerationConfig.from_dict, settings):
            expected = f"a setting of generation ({first_line(error)})"
            raise bad_value(name, field, settings[field], expected) from error


def refuse_adapter(folder: Path, name: str) -> None:
    """Check that a folder holds no adapter, which would be loaded beside the weights or be left out.

    Raises:
        ValueError: it does.
    """
    files = [*folder.glob("adapter_config.json"), *folder.glob("adapter_model.*")]
    if files:
        raise ValueError(
            f"{name}: {files[0].name} is an adapter: merge it into the weights first (merge_and_unload of peft, then "
            "save_pretrained) and load that folder"
        )


def copied_model(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """A copy of a Hugging Face model in memory, with eager attention and in evaluation mode.

    Raises:
        ValueError: another class, other modules or weights than its config describes, hooks, an adapter, or weights
            that are not finite.
    """
    import torch
    from transformers import GPT2LMHeadModel, GPTNeoForCausalLM, GPTNeoXForCausalLM

    from neolens.models.modifications import modified_modules

    classes = (GPT2LMHeadModel, GPTNeoForCausalLM, GPTNeoXForCausalLM)
    if type(model) not in classes:
        expected = ", ".join(each.__name__ for each in classes)
        raise ValueError(f"{name}: a {type(model).__name__} is not handled: expected one of {expected}")
    with torch.device("meta"):
        plain = type(model)(copy.deepcopy(model.config))
    modules = [(key, type(module)) for key, module in model.named_modules()]
    shapes = {key: weight.shape for key, weight in model.named_parameters(remove_duplicate=False)}
    known = {key: weight.shape for key, weight in plain.named_parameters(remove_duplicate=False)}
    if modules != [(key, type(module)) for key, module in plain.named_modules()] or shapes != known:
        raise ValueError(
            f"{name}: the model's modules or weights are not those of its config (an adapter, a parametrization, or "
            "another change): merge or undo it first"
        )
    if changed := modified_modules(model):
        raise ValueError(f"{name}: {changed[0]} has torch hooks or a forward method of its own: remove them first")
    copied = copy.deepcopy(model)
    copied.zero_grad(set_to_none=True)
    copied.set_attn_implementation("eager")
    refuse_not_finite(copied, name)
    return copied.eval()


def refuse_not_finite(model: PreTrainedModel, name: str) -> None:
    """Check that every weight is finite.

    Raises:
        ValueError: one is not; named.
    """
    import torch

    for key, weight in model.named_parameters():
        low, high = torch.aminmax(weight.detach())
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise ValueError(
                f"{name}: weight {key} holds NaN or infinite values: expected finite numbers; "
                "the file is damaged or the training diverged, or the dtype is too narrow"
            )


def _check_report(report: dict[str, set], name: str) -> None:
    """Refuse what transformers' loading report says is missing, of another shape or unknown; warn of other heads."""
    unexpected = sorted(key for key in map(str, report["unexpected_keys"]) if not _OLD_BUFFERS.search(key))
    heads = [key for key in unexpected if _OTHER_HEADS.search(key)]
    keys = {
        "missing": sorted(map(str, report["missing_keys"])),
        "mismatched": sorted(map(str, report["mismatched_keys"])),
        "unexpected": [key for key in unexpected if key not in heads],
    }
    for problem, wrong in keys.items():
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise ValueError(
                f"{name}: {problem} weight {wrong[0]}{more}: "
                "the file does not belong to this config.json; fetch or save the folder anew"
            )
    if heads:
        warnings.warn(f"{name}: heads besides the language model's are left out: {', '.join(heads)}", stacklevel=4)
