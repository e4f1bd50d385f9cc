"""Tokenizers: what `AutoTokenizer` reads, whatever its files; no token made up; text alike in the three families."""

import copy
import json
import subprocess
import sys
import textwrap

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import neolens
import tiny
from neolens.models import sources as folders

WORDS = ["when", "john", "mary", "went", "to", "the", "store", "a", "b", "c", "d", "e"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
ESM = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
TEXT = "when john went to the store"


def write_settings(folder, **settings):
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_bert(folder):
    (folder / "vocab.txt").write_text("\n".join(BERT) + "\n")
    write_settings(folder, tokenizer_class="BertTokenizer")


def write_esm(folder):
    (folder / "vocab.txt").write_text("\n".join(ESM) + "\n")
    write_settings(folder, tokenizer_class="EsmTokenizer")


def sentencepiece_bytes(model_type="unigram"):
    import io

    from sentencepiece import SentencePieceTrainer

    file = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT, "mary went to a b c d e"] * 20),
        model_writer=file,
        vocab_size=40 if model_type == "unigram" else 50,
        model_type=model_type,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return file.getvalue()


def write_t5(folder):
    (folder / "spiece.model").write_bytes(sentencepiece_bytes())
    write_settings(folder, tokenizer_class="T5Tokenizer", extra_ids=0)


def write_llama(folder):
    (folder / "tokenizer.model").write_bytes(sentencepiece_bytes("bpe"))
    write_settings(folder, tokenizer_class="LlamaTokenizer")


def write_xlm_roberta(folder):
    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_bytes())
    write_settings(folder, tokenizer_class="XLMRobertaTokenizer")


def write_gpt2(folder):
    letters = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ")}
    merges = ["w h", "wh e", "whe n", "Ġ t", "Ġt o"]
    vocabulary = {
        **letters,
        **{merge.replace(" ", ""): 27 + at for at, merge in enumerate(merges)},
        "<|endoftext|>": 32,
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    write_settings(folder, tokenizer_class="GPT2Tokenizer")


def write_bytes(folder):
    write_settings(folder, tokenizer_class="ByT5Tokenizer")


WRITERS = {
    "vocab.txt": write_bert,
    "vocab.txt of letters": write_esm,
    "spiece.model": write_t5,
    "tokenizer.model": write_llama,
    "sentencepiece.bpe.model": write_xlm_roberta,
    "vocab.json and merges.txt": write_gpt2,
    "no file": write_bytes,
}


def special_tokens(tokenizer):
    return tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_tokenizers_in_other_files_are_read_as_auto_tokenizer_reads_them(write, tmp_path):
    tiny.model("gpt2", vocab_size=400).save_pretrained(tmp_path)
    write(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = neolens.load(tmp_path, device="cpu").tokenizer
    assert type(ours) is type(theirs)
    assert len(ours) == len(theirs)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours(TEXT)["input_ids"] == theirs(TEXT)["input_ids"] != []
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.bos_token_id == (theirs.eos_token_id if theirs.bos_token_id is None else theirs.bos_token_id)


def test_a_folder_without_tokenizer_files_has_none(tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path)
    assert neolens.load(tmp_path).tokenizer is None
    with pytest.raises(ValueError, match=r"the model has no tokenizer, so it takes no text"):
        neolens.load(tmp_path).to_tokens(TEXT)


def test_a_vocabulary_that_no_class_is_named_for_is_refused_by_file(tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(BERT))  # AutoTokenizer would make an empty GPT2Tokenizer
    with pytest.raises(ValueError, match=r"vocab\.txt is not read by GPT2Tokenizer.*tokenizer_class"):
        neolens.load(tmp_path)
    assert neolens.load(tmp_path, tokenizer=False).tokenizer is None


@pytest.mark.parametrize("write", [write_t5, write_llama], ids=["spiece.model", "tokenizer.model"])
def test_a_damaged_sentencepiece_file_is_refused_by_name(write, tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path)
    write(tmp_path)
    file = next(tmp_path.glob("*.model"))
    file.write_bytes(file.read_bytes()[:20] + b"\xff" * 50)
    with pytest.raises(ValueError, match=f"the tokenizer cannot be read from {file.name}"):
        neolens.load(tmp_path)


def test_a_missing_library_is_named_with_how_to_install_it(tmp_path):
    tiny.model("gpt2", vocab_size=400).save_pretrained(tmp_path)
    write_t5(tmp_path)
    code = f"""
        import sys
        sys.modules["sentencepiece"] = None
        sys.modules["google.protobuf"] = None
        import neolens
        try:
            neolens.load({str(tmp_path)!r})
        except ValueError as error:
            print(error)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "cannot be read from spiece.model" in run.stdout
    assert "pip install sentencepiece" in run.stdout


def test_tokenizer_code_is_never_run(tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path)
    trap = tmp_path / "executed"
    (tmp_path / "tokenization_evil.py").write_text(f"import os; os.mkdir({str(trap)!r})\nclass Evil: pass\n")
    write_settings(tmp_path, tokenizer_class="Evil", auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})
    with pytest.raises(ValueError, match=r"tokenizer cannot be read from tokenizer_config\.json"):
        neolens.load(tmp_path)
    assert not trap.exists()


def test_the_files_of_tokenizers_are_fetched_from_the_hub(monkeypatch, tmp_path):
    tiny.model("gpt2").save_pretrained(tmp_path)
    patterns = set()

    def snapshot(repository, revision=None, allow_patterns=None):
        patterns.update(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert folders.resolve("somebody/model").folder == tmp_path
    assert {"*.txt", "*.json", "*.model", "*.safetensors"} <= patterns


def word_tokenizer(unknown="[UNK]", **special):
    words = [*([unknown] if unknown else []), *special.values(), *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token=unknown or "none"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **({"unk_token": unknown} if unknown else {}), **special)


@pytest.fixture(params=["gpt2", "gpt-neo", "pythia"])
def family(request):
    return request.param


@pytest.mark.parametrize("unknown", ["[UNK]", None])
def test_a_tokenizer_without_bos_gets_none_in_any_family(family, unknown, tmp_path):
    tokenizer = word_tokenizer(unknown)
    tiny.model(family).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = neolens.load(tmp_path, device="cpu")
    assert special_tokens(model.tokenizer) == (None, None, None)
    assert len(model.tokenizer) == len(tokenizer)
    assert model.to_tokens(TEXT).tolist() == [tokenizer(TEXT)["input_ids"]]
    assert torch.equal(model(TEXT), model(torch.tensor([tokenizer(TEXT)["input_ids"]])))
    with pytest.raises(ValueError, match="has no BOS and no end-of-text token: pass prepend_bos=False"):
        model.to_tokens(TEXT, prepend_bos=True)
    with pytest.raises(ValueError, match="different lengths and the tokenizer has no padding token"):
        model.to_tokens(["when john", "mary"])
    model.tokenizer = copy.deepcopy(tokenizer)  # upstream invents tokens here too
    assert special_tokens(model.tokenizer) == (None, None, None)


@pytest.mark.parametrize(
    ("special", "expected"),
    [({"bos_token": "[B]"}, 1), ({"eos_token": "[E]"}, 1), ({"bos_token": "[B]", "eos_token": "[E]"}, 1)],
    ids=["bos", "end of text", "both"],
)
def test_text_begins_with_bos_or_end_of_text_in_every_family(family, special, expected, tmp_path):
    tokenizer = word_tokenizer(**special)
    tiny.model(family).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = neolens.load(tmp_path, device="cpu")
    assert len(model.tokenizer) == len(tokenizer)
    assert model.tokenizer.eos_token_id == tokenizer.eos_token_id
    ids = tokenizer(TEXT)["input_ids"]
    assert model.to_tokens(TEXT).tolist() == [[expected, *ids]]
    assert model.to_tokens(TEXT, prepend_bos=False).tolist() == [ids]
    two = model.to_tokens([TEXT, "mary"], padding_side="left")
    assert two[1].tolist() == [model.tokenizer.pad_token_id] * (len(ids) - 1) + [
        expected,
        *tokenizer("mary")["input_ids"],
    ]
    padded = model([TEXT, "mary"], padding_side="left")
    assert torch.allclose(padded[1, -1], model("mary")[0, -1], atol=1e-5)


def test_a_bos_outside_the_models_vocabulary_is_not_put_before_text(tmp_path):
    tokenizer = word_tokenizer()
    tiny.model("gpt2", vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.add_special_tokens({"bos_token": "<|endoftext|>"})
    tokenizer.save_pretrained(tmp_path)
    model = neolens.load(tmp_path, device="cpu")
    assert int(model.to_tokens(TEXT).max()) < len(WORDS) + 1


def test_text_longer_than_the_context_is_cut_with_bos_first(tmp_path):
    tokenizer = word_tokenizer(bos_token="[B]")
    tiny.model("gpt2", n_positions=8).save_pretrained(tmp_path)
    model = neolens.load(tmp_path, device="cpu", tokenizer=tokenizer)
    ids = tokenizer(f"{TEXT} {TEXT}")["input_ids"]
    assert model.to_tokens(f"{TEXT} {TEXT}").tolist() == [[1, *ids[:7]]]
    assert model.to_tokens(f"{TEXT} {TEXT}", truncate=False).tolist() == [[1, *ids]]
    assert tokenizer.pad_token is None  # the caller's tokenizer is not changed
    with pytest.raises(TypeError, match="tokenizer is a str: expected a Hugging Face tokenizer, or False"):
        neolens.load(tmp_path, tokenizer="gpt2")
