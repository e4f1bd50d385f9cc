"""Loading: bad folders and files end in one clear error before anything is built; nothing is ever executed."""

import json
import os
import pickle
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

import neolens
import tiny
from neolens.models import sources as folders


@pytest.fixture
def folder(tiny_folders, tmp_path):
    """A copy of the tiny GPT-Neo folder that a test may damage."""
    return shutil.copytree(tiny_folders["gpt-neo"], tmp_path / "model")


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"the folder has no config\.json: expected a model folder"):
        neolens.load(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no weights in the folder: expected model\.safetensors"):
        neolens.load(folder)


def test_a_config_that_is_not_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        neolens.load(folder)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_truncated_safetensors_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match="the weights cannot be read .*truncated, damaged"):
        neolens.load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(folder, value):
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.weight"][0, 0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"weight transformer\.h\.1\.mlp\.c_fc\.weight holds NaN or infinite"):
        neolens.load(folder)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gpt-neo", "transformer.h.2.attn.attention.q_proj.weight"),
        ("gpt2", "transformer.h.1.attn.c_attn.bias"),
        ("pythia", "gpt_neox.layers.0.attention.dense.bias"),
        ("pythia", "embed_out.weight"),
    ],
)
def test_missing_weights_are_refused_and_not_made_up(name, key, tiny_folders, tmp_path):
    folder = shutil.copytree(tiny_folders[name], tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"missing weight ({re.escape(key)}|lm_head.weight)"):
        neolens.load(folder)


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("gpt2", lambda key: key.removeprefix("transformer.")),  # as in the released gpt2
        ("pythia", lambda key: key.replace("embed_out", "lm_head")),  # as transformers 5 names it
    ],
)
def test_weights_under_their_published_names_are_found(name, renamed, tiny_folders, tmp_path, bridges):
    folder = shutil.copytree(tiny_folders[name], tmp_path / "model")
    weights = {renamed(key): value for key, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokens = tiny.tokens()
    assert torch.equal(neolens.load(folder)(tokens), bridges[name](tokens))


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(
        ValueError,
        match=r"intermediate_size = 64, but weight .*c_fc\.weight has shape \[48, 32\].*intermediate_size = 48",
    ):
        neolens.load(folder)


def test_weights_that_the_config_does_not_know_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_layers": 2, "attention_types": [[["global", "local"], 1]]}
    config.pop("attention_layers", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"num_layers = 2, but .* 4 layers .*unexpected weight transformer\.h\.[23]"):
        neolens.load(folder)


def test_buffers_of_old_checkpoints_are_no_obstacle(folder, bridges):
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.0.attn.attention.bias"] = torch.ones(1, 1, tiny.CONTEXT, tiny.CONTEXT)
    weights["transformer.h.0.attn.attention.masked_bias"] = torch.tensor(-1e9)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokens = tiny.tokens()
    assert torch.equal(neolens.load(folder)(tokens), bridges["gpt-neo"](tokens))


class Evil:
    """Unpickles by making a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_weights_are_loaded_as_data_and_never_executed(folder, tmp_path, bridges):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    tokens = tiny.tokens()
    assert torch.equal(neolens.load(folder)(tokens), bridges["gpt-neo"](tokens))

    trap = tmp_path / "executed"
    torch.save({**weights, "evil": Evil(str(trap))}, folder / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(ValueError, match="the weights cannot be read"):
        neolens.load(folder)
    assert not trap.exists()


def test_code_beside_the_weights_is_never_run(folder, tmp_path):
    trap = tmp_path / "executed"
    (folder / "modeling_evil.py").write_text(f"import os; os.mkdir({str(trap)!r})\nclass Model: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="auto_map"):
        neolens.load(folder)
    assert not trap.exists()


@pytest.mark.parametrize("dtype", ["int64", "float33", torch.int32])
def test_a_dtype_that_is_not_floating_is_refused(dtype, folder):
    with pytest.raises(ValueError, match="is not handled: expected float32"):
        neolens.load(folder, dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "meta:x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device, folder):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used here"):
        neolens.load(folder, device=device)


def test_a_damaged_tokenizer_is_refused(tmp_path):
    from neolens.lab import folder as lab_folder

    folder = shutil.copytree(lab_folder("gpt2"), tmp_path / "model")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="the tokenizer cannot be read"):
        neolens.load(folder)


@pytest.mark.parametrize("name", ["lab/gpt2", "lab/pythia"])
def test_text_becomes_the_tokens_that_transformer_lens_makes_of_it(name):
    from transformer_lens.model_bridge import TransformerBridge

    from neolens.lab import folder as lab_folder

    ours = neolens.load(name, device="cpu")
    theirs = TransformerBridge.boot_transformers(str(lab_folder(name)), device="cpu")
    for prepend_bos in (True, False, None):
        text = "farmer sells corn"
        expected = theirs.to_tokens(text, prepend_bos=prepend_bos is not False)  # theirs has no BOS in GPT-NeoX
        assert torch.equal(ours.to_tokens(text, prepend_bos=prepend_bos), expected)
        assert torch.equal(ours(text, prepend_bos=prepend_bos), ours(expected))
    assert ours.to_str_tokens(text) == theirs.to_str_tokens(text, prepend_bos=True)
    assert torch.equal(ours.to_tokens([text, "farmer"]), theirs.to_tokens([text, "farmer"], prepend_bos=True))


def test_a_tokenizer_without_its_vocabulary_is_none(folder):
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    assert neolens.load(folder).tokenizer is None


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float64])
def test_weights_come_in_the_dtype_asked_for(dtype, folder):
    model = neolens.load(folder, dtype=dtype)
    expected = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert {parameter.dtype for parameter in model.parameters()} == {expected}
    assert model.cfg.dtype == expected


def test_a_revision_of_a_local_folder_is_refused(folder):
    with pytest.raises(ValueError, match="a local folder has no revision 'step1'"):
        neolens.load(folder, revision="step1")


def test_without_a_network_the_error_says_how_to_fetch_beforehand(monkeypatch, tmp_path):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*arguments, **options):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(ValueError, match="hf download EleutherAI/pythia-70m --revision step3000"):
        neolens.load("pythia-70m", revision="step3000")


def test_a_hub_model_is_read_from_its_snapshot(monkeypatch, folder, bridges):
    asked = []

    def snapshot(repository, revision=None, allow_patterns=None):
        asked.append((repository, revision, tuple(allow_patterns)))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    model = neolens.load("somebody/tiny-neo", revision="v2")
    tokens = tiny.tokens()
    assert torch.equal(model(tokens), bridges["gpt-neo"](tokens))
    assert model.anatomy.name == "somebody/tiny-neo@v2"
    assert {repository for repository, *_ in asked} == {"somebody/tiny-neo"}
    assert asked[0] == ("somebody/tiny-neo", "v2", ("config.json",))
    assert not any("bin" in pattern for *_, patterns in asked for pattern in patterns)


def test_an_unsupported_hub_model_is_refused_before_its_weights_are_fetched(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    asked = []

    def snapshot(repository, revision=None, allow_patterns=None):
        asked.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(ValueError, match="model_type 'llama' is not handled"):
        neolens.load("somebody/llama")
    assert asked == ["config.json"]


def test_a_folder_named_like_a_catalogue_name_is_taken_only_if_it_is_a_model(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert folders.resolve("gpt2").hub_id == "openai-community/gpt2"
    (tmp_path / "gpt2" / "config.json").write_text(json.dumps(tiny.config("gpt2").to_dict()))
    assert folders.resolve("gpt2").local is not None


def spellings(folder):
    """One folder in six spellings; the working directory is its parent, the home directory too."""
    link = folder.parent / "link"
    link.symlink_to(folder)
    return [folder, str(folder), f"{folder}/", "model", f"./{folder.name}/../model", "~/model", f"label={folder}", link]


def test_one_folder_in_any_spelling_is_one_model(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    names = spellings(folder)
    assert {folders.resolve(name).identity for name in names} == {(str(folder.resolve()), None)}
    assert [neolens.anatomy(name).name for name in names] == ["model"] * 6 + ["label", "link"]
    monkeypatch.chdir(folder)
    assert neolens.anatomy(".").name == "model"


def test_a_catalogue_name_and_its_hub_id_are_one_model():
    assert folders.resolve("GPT2").identity == folders.resolve("openai-community/gpt2").identity
    assert folders.resolve("pythia-70m", "step1").identity != folders.resolve("pythia-70m").identity
    assert folders.resolve("lab/gpt2@0").identity == folders.resolve("LAB/gpt2").identity


@pytest.mark.parametrize("name", ["gpt2", "EleutherAI/pythia-70m", "lab/gpt-neo"])
def test_any_name_takes_a_label(name):
    assert neolens.anatomy(f"my model={name}").name == "my model"
    assert neolens.anatomy(f"my model={name}").parameters == neolens.anatomy(name).parameters
    assert neolens.anatomy(f"late={name}", revision="step500" if name == "lab/gpt-neo" else "main").name[:5] == "late@"


@pytest.mark.parametrize("name", ["=gpt2", "gpt2=", "a/b=gpt2"])
def test_a_label_without_a_name_is_refused(name):
    with pytest.raises(ValueError, match="expected LABEL=NAME"):
        neolens.anatomy(name)


def test_a_folder_with_an_equals_sign_in_its_name_is_a_folder(folder):
    other = folder.rename(folder.parent / "lr=0.1")
    assert neolens.anatomy(str(other)).name == "lr=0.1"
    assert neolens.anatomy(f"slow={other}").name == "slow"


def test_a_folder_called_like_a_published_model_is_not_taken_for_it(folder):
    from neolens.studies.ioi.published import published

    config = json.dumps({"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768})
    other = folder.rename(folder.parent / "gpt2")
    (other / "config.json").write_text(config)
    assert published(neolens.anatomy("gpt2"))
    assert published(neolens.anatomy(other)) == ()


def test_studies_refuse_one_model_twice_and_two_with_one_label(folder, tmp_path):
    from neolens.studies.models import read_models

    def distinct(names):
        return read_models(
            SimpleNamespace(models=names, ignore_fields=(), device=None, out=tmp_path / "out"), "first"
        ).anatomies

    other = shutil.copytree(folder, tmp_path / "other" / "model")
    with pytest.raises(ValueError, match=f"are the same model .{folder.resolve()}.: give each only once"):
        distinct([str(folder), "lab/gpt2", f"again={folder}/"])
    with pytest.raises(ValueError, match=f"have one label, model: give one of them another, such as other={other}"):
        distinct([str(folder), str(other)])
    assert [facts.name for facts in distinct([str(folder), f"other={other}"])] == ["model", "other"]


@pytest.mark.parametrize("name", ["gpt2", "gpt-neo", "pythia"])
def test_the_anatomy_says_whether_the_loaded_embeddings_are_tied_whatever_the_config_says(name, tmp_path):
    untied = tiny.model(name, tie_word_embeddings=False)
    untied.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": True}))
    model = neolens.load(tmp_path)
    own = torch.equal(model.original_model.get_output_embeddings().weight, untied.get_output_embeddings().weight)
    assert neolens.anatomy(model).tied_embedding is not own
    assert neolens.anatomy(model).parameters == sum(weight.numel() for weight in model.original_model.parameters())
    if own:
        assert torch.equal(model(tiny.tokens()), untied(tiny.tokens()).logits)
