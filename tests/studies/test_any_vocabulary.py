"""Every experiment with any vocabulary: GPT-2s of 33 tokens, without a tokenizer, and with a BERT-style tokenizer.

Parts that need words are left out by name, and numbers are those of Hugging Face on the same tokens.
"""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import neolens
import shell
from neolens import results
from neolens.prompts import indirect_object, longest_repeat, random_repeats, read_tokens, token_pool
from neolens.prompts.families.english import WORDS
from neolens.prompts.families.random_induction import random_induction
from neolens.studies import find_study, inputs, runner
from neolens.studies.rotary_vs_absolute import measure as position_measure
from neolens.studies.window_reach.measure import TASKS, WORDLESS_TASKS, planted

CONTEXT = 128
PROTEIN = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACDEFGHIKLMNPQRSTVWY", *(f"[T{i}]" for i in range(8))]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", *LETTERS, *(f"##{letter}" for letter in LETTERS)]

EXPERIMENTS = {
    "ioi": ["--prompts", "2"],
    "window_reach": ["--prompts", "8"],
    "induction": ["--prompts", "8"],
    "head_ablation": ["--prompts", "4", "--draws", "1", "--length", "48"],
    "local_vs_global": ["--prompts", "2", "--length", "48"],
    "rotary_vs_absolute": ["--prompts", "8"],
    "compare": ["--prompts", "8", "--draws", "1", "--length", "48"],
}
"""Experiment -> arguments that keep it short."""


def gpt2(folder, size, tokenizer=None, **special):
    """Save a random GPT-2 whose heads attend to something, with or without a tokenizer."""
    torch.manual_seed(0)
    ids = {name: special.pop(name, None) for name in ("bos_token_id", "eos_token_id")}
    config = GPT2Config(vocab_size=size, n_layer=2, n_head=2, n_embd=32, n_positions=CONTEXT, **ids)
    config.initializer_range = 0.3
    GPT2LMHeadModel(config).save_pretrained(folder)
    if tokenizer is not None:
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **special).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What is peculiar to a vocabulary -> a model's folder."""
    root = tmp_path_factory.mktemp("models")
    protein = Tokenizer(models.WordLevel({word: at for at, word in enumerate(PROTEIN)}, unk_token="[UNK]"))
    protein.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bert = Tokenizer(models.WordPiece({word: at for at, word in enumerate(BERT)}, unk_token="[UNK]"))
    bert.normalizer, bert.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    ends = {"bos_token": "[CLS]", "eos_token": "[SEP]", "bos_token_id": 2, "eos_token_id": 3}
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return {
        "33 tokens": gpt2(root / "protein", len(PROTEIN), protein, pad_token="[PAD]", **ends),
        "no tokenizer": gpt2(root / "bare", 40),
        "BERT": gpt2(root / "bert", len(BERT), bert, pad_token="[PAD]", **marks),
    }


@pytest.fixture(scope="module")
def names(folders):
    """What is peculiar -> the name in reports."""
    return {kind: neolens.anatomy(folder).name for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def huggingface(folders):
    """What is peculiar -> the model as Hugging Face runs it."""
    return {
        kind: GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
        for kind, folder in folders.items()
    }


def call(experiment, *arguments):
    return shell.call(find_study(experiment), *arguments)


@pytest.fixture(scope="module")
def runs(folders, tmp_path_factory):
    """Experiment -> exit code, folder and record of a run with all three models."""
    one_process = pytest.MonkeyPatch()
    one_process.setattr(runner, "PROCESSES", 1)
    done = {}

    def run(experiment):
        if experiment not in done:
            out = tmp_path_factory.mktemp(experiment)
            code = call(experiment, "--models", *folders.values(), *EXPERIMENTS[experiment], "--out", out)
            done[experiment] = code, out, json.loads((out / "record.json").read_text(encoding="utf-8"))
        return done[experiment]

    yield run
    one_process.undo()


def gpt2_with_words(folder, without=()):
    """Save a model without BOS whose BERT-style tokenizer has the words of the tasks."""
    sentences = "when while after yesterday one day this morning and went to the were at came back from met working "
    sentences += "took a walk gave decided give handed who has what now so new met ? . , !"
    every = [*BERT, *" ".join(map(" ".join, WORDS.values())).lower().split(), *sentences.split()]
    known = dict.fromkeys(word for word in every if word not in without)
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return gpt2(folder, len(known), tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


@torch.no_grad()
def losses(model, tokens):
    """[prompt, pos]: Hugging Face's loss of predicting each token but the first."""
    logits = model(tokens).logits[:, :-1].double()
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").numpy()


def copied(model, repeats):
    """Hugging Face's mean loss of each prompt where r_2..r_n of the second copy are predicted."""
    n = repeats.shape[1] // 2
    return losses(model, repeats)[:, n + 1 : 2 * n].mean(1)


# Every experiment finishes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_finishes_with_a_report_that_names_the_prompts_without_bos(experiment, runs, names):
    code, out, record = runs(experiment)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert code == 0
    for sentence in (
        f"Prompts of {names['BERT']} begin without BOS: its tokenizer has none.",
        f"Prompts of {names['no tokenizer']} begin without BOS: it has no tokenizer.",
    ):
        assert sentence in [warning["text"] for warning in record["warnings"]]
        assert sentence in page
    assert {name: one["bos"] for name, one in record["inputs"].items()} == {
        names["33 tokens"]: True,
        names["no tokenizer"]: False,
        names["BERT"]: False,
    }


OMITTED = {
    "ioi": {"the indirect object"},
    "window_reach": {"indirect object", "recall"},
    "compare": {"circuit"},
    "induction": set(),
    "rotary_vs_absolute": set(),
    "local_vs_global": set(),
}
"""Experiment -> what each of the three models is not asked for."""


@pytest.mark.parametrize("experiment", OMITTED)
def test_parts_that_need_words_are_left_out_by_name(experiment, runs, names):
    _, out, record = runs(experiment)
    page = (out / "report.html").read_text(encoding="utf-8")
    for name in names.values():
        assert set(record["inputs"][name]["left_out"]) == OMITTED[experiment]
        for part in OMITTED[experiment]:
            assert f"{name} was not asked for {'the indirect object' if part == 'circuit' else part}: " in page


def test_what_is_left_out_is_printed(folders, names, tmp_path, capsys):
    assert call("ioi", "--models", folders["no tokenizer"], "--out", tmp_path) == 0
    assert f"{names['no tokenizer']} was not asked for the indirect object: it has no tok" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["findings.csv", "record.json", "report.html"]


def test_a_model_with_words_is_asked_beside_one_without(folders, names, tmp_path):
    arguments = ["--models", "lab/gpt2", folders["no tokenizer"], "--prompts", "2", "--out", tmp_path]
    assert call("ioi", *arguments) == 0
    assert results.load(tmp_path / "result.nc")["model"].values.tolist() == ["lab/gpt2"]
    left_out = {
        name: one["left_out"] for name, one in json.loads((tmp_path / "record.json").read_text())["inputs"].items()
    }
    assert left_out["lab/gpt2"] == {}
    assert list(left_out[names["no tokenizer"]]) == ["the indirect object"]


def test_continuations_are_left_out_by_name_without_a_tokenizer_and_where_text_is_not_read_back(runs, names):
    _, out, record = runs("head_ablation")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert record["inputs"][names["no tokenizer"]]["left_out"] == {"continuations": "it has no tokenizer"}
    assert f"{names['no tokenizer']} was not asked for continuations: it has no tokenizer." in page
    # this tokenizer has no decoder, so it writes "##b" where it would read "#", "#" and "b"
    texts = [one["text"] for one in record["warnings"] if not isinstance(one, str)]
    assert any(text.startswith(f"{names['BERT']} was not asked for the continuations of") for text in texts)


def test_a_bert_style_tokenizer_with_the_words_is_asked_in_words_without_bos(tmp_path_factory, tmp_path):
    words = gpt2_with_words(tmp_path_factory.mktemp("words"))
    model = neolens.load(words)
    assert call("ioi", "--models", words, "--prompts", "4", "--out", tmp_path) == 0
    result = results.load(tmp_path / "result.nc").isel(model=0)
    pairs = indirect_object(model, 4, corruption="other", prepend_bos=False)
    assert all(prompt[0] not in model.tokenizer.all_special_ids for prompt in pairs.clean)
    truth = GPT2LMHeadModel.from_pretrained(words).eval()
    with torch.no_grad():
        last = torch.stack([truth(prompt[None]).logits[0, -1] for prompt in pairs.clean])
    rows = torch.arange(4)
    expected = last[rows, pairs.answers] - last[rows, pairs.distractors]
    np.testing.assert_allclose(result["clean"], expected, atol=1e-5)
    assert [inputs.unreadable(model, family) for family, _, _ in TASKS.values()] == [None] * 3


# What they read ----------------------------------------------------------------------------------------------


def test_text_is_random_tokens_where_the_labs_english_is_not_read(runs, names, folders):
    _, out, record = runs("local_vs_global")
    sources = {kind: record["inputs"][name]["text"]["source"] for kind, name in names.items()}
    assert sources["BERT"] == inputs.LAB_ENGLISH
    assert sources["no tokenizer"] == f"random tokens, since {names['no tokenizer']} has no tokenizer"
    assert sources["33 tokens"].startswith(f"random tokens, since the tokenizer of {names['33 tokens']} does not know")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"Text of {names['no tokenizer']}: {sources['no tokenizer']}." in page


def test_repeated_sequences_of_a_small_vocabulary_have_no_token_twice(runs, folders, names):
    _, _, record = runs("induction")
    window = record["asked"]["window"]
    pools = {kind: len(token_pool(neolens.load(folder))) for kind, folder in folders.items()}
    assert pools == {"33 tokens": 29, "no tokenizer": 40, "BERT": 54}  # without special tokens
    assert window == 29 // 3
    assert results.load(runs("induction")[1] / "result.nc")["n"].max() == 3 * window
    assert longest_repeat(neolens.load(folders["no tokenizer"])) == 39  # one of them stands first, in place of BOS


def test_a_task_that_a_vocabulary_is_too_small_for_is_left_out(tmp_path_factory, tmp_path):
    nucleotides = Tokenizer(models.WordLevel({"[UNK]": 0, "A": 1, "C": 2, "G": 3, "T": 4}, unk_token="[UNK]"))
    nucleotides.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = gpt2(tmp_path_factory.mktemp("nucleotides"), 5, nucleotides)
    assert call("window_reach", "--models", folder, "--prompts", "8", "--out", tmp_path) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    left_out = next(iter(record["inputs"].values()))["left_out"]
    assert list(left_out) == ["induction", "indirect object", "recall"]
    assert "at least 5 tokens to draw from" in left_out["induction"]


def test_a_task_whose_distances_a_vocabulary_cannot_fill_is_left_out(tmp_path):
    folder = gpt2_with_words(tmp_path / "model", without=("now",))
    out = tmp_path / "out"
    assert call("window_reach", "--models", folder, "--prompts", "8", "--out", out) == 0
    left_out = json.loads((out / "record.json").read_text())["inputs"]["model"]["left_out"]
    assert list(left_out) == ["indirect object", "recall"]
    assert left_out["indirect object"].startswith("' Now' is not one token of this model's tokenizer")


def test_tokens_that_have_to_recur_are_named(folders, names, tmp_path):
    arguments = ["--models", folders["33 tokens"], "--prompts", "8", "--lengths", "8,40", "--out", tmp_path]
    assert call("induction", *arguments) == 0
    sentence = f"Sequences of {names['33 tokens']} that repeat after 40 or more tokens have tokens that occur more than"
    record = json.loads((tmp_path / "record.json").read_text())
    assert any(sentence in warning["text"] for warning in record["warnings"])


def test_lengths_that_do_not_fit_the_context_are_refused(folders, tmp_path, capsys):
    arguments = ["--models", folders["33 tokens"], "--lengths", "8,64"]
    shell.refused(lambda *rest: call("induction", *rest), arguments, "expected 3 to 63", tmp_path, capsys)


# Its numbers are Hugging Face's ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["33 tokens", "no tokenizer", "BERT"])
def test_the_loss_of_copies_is_that_of_hugging_face(kind, runs, folders, names, huggingface):
    model = neolens.load(folders[kind])
    result = results.load(runs("induction")[1] / "result.nc").sel(model=names[kind], seed=0)
    for n in (9, 10):
        repeats = random_repeats(model, n, prompts=8, seed=0, prepend_bos=kind == "33 tokens")
        np.testing.assert_allclose(result["loss"].sel(distance=n - 1), copied(huggingface[kind], repeats), atol=1e-5)
    texts = position_measure.texts(model, prompts=8, seed=0, prepend_bos=kind == "33 tokens")
    result = results.load(runs("rotary_vs_absolute")[1] / "result.nc").sel(model=names[kind], seed=0)
    expected = copied(huggingface[kind], texts.repeats).mean()
    np.testing.assert_allclose(result["copied_loss"], expected, atol=1e-5)
    assert (texts.repeats[:, 0] == 2).all() == (kind == "33 tokens")


def test_the_logit_difference_of_induction_in_random_tokens_is_that_of_hugging_face(runs, folders, names, huggingface):
    result = results.load(runs("window_reach")[1] / "result.nc").sel(model=names["no tokenizer"], seed=0)
    how = {"tasks": WORDLESS_TASKS, "prepend_bos": False}
    pairs = planted(neolens.load(folders["no tokenizer"]), "induction", 9, 8, 0, **how)
    with torch.no_grad():
        last = huggingface["no tokenizer"](torch.stack(pairs.clean)).logits[:, -1]
    rows = torch.arange(8)
    expected = last[rows, pairs.answers] - last[rows, pairs.distractors]
    np.testing.assert_allclose(result["clean_induction"].sel(distance=9), expected, atol=1e-5)


@pytest.fixture(scope="module")
def token_files(folders, tmp_path_factory):
    """The same 8 prompts of 40 tokens, as .npy, .pt and lines of integers."""
    root, tokens = (
        tmp_path_factory.mktemp("tokens"),
        torch.randint(40, (8, 40), generator=torch.Generator().manual_seed(3)),
    )
    np.save(root / "ids.npy", tokens.numpy())
    torch.save(tokens, root / "ids.pt")
    (root / "ids.txt").write_text("\n".join(" ".join(map(str, row)) for row in tokens.tolist()))
    return tokens, [root / name for name in ("ids.npy", "ids.pt", "ids.txt")]


def test_the_loss_on_a_file_of_tokens_is_that_of_hugging_face(token_files, folders, huggingface, tmp_path):
    tokens, files = token_files
    expected = losses(huggingface["no tokenizer"], tokens).mean(1)
    for number, file in enumerate(files):
        arguments = ["--models", folders["no tokenizer"], "--tokens", file, "--prompts", "8", "--draws", "1"]
        assert call("head_ablation", *arguments, "--out", tmp_path / str(number)) == 0
        result = results.load(tmp_path / str(number) / "result.nc").isel(model=0)
        np.testing.assert_allclose(result["baseline_text"], expected, atol=1e-5)
    record = json.loads((tmp_path / "0" / "record.json").read_text())
    text = next(iter(record["inputs"].values()))["text"]
    assert {name: text[name] for name in ("source", "prompts", "length")} == {
        "source": f"tokens of {files[0]}",
        "prompts": 8,
        "length": 40,
    }
    page = (tmp_path / "0" / "report.html").read_text(encoding="utf-8")
    assert f"Text: tokens of {files[0]}." in page
    assert f"--tokens {files[0]}" in page


def test_attention_on_a_file_of_tokens_is_that_of_hugging_face(token_files, folders, huggingface, tmp_path):
    tokens, files = token_files
    arguments = ["--models", folders["no tokenizer"], "--tokens", files[2], "--prompts", "8", "--out", tmp_path]
    assert call("local_vs_global", *arguments) == 0
    sink = results.load(tmp_path / "result.nc")["sink"].isel(model=0).transpose("layer", "prompt", "head")
    with torch.no_grad():
        patterns = huggingface["no tokenizer"](tokens, output_attentions=True).attentions
    expected = torch.stack([pattern[..., 0].mean(-1) for pattern in patterns])
    np.testing.assert_allclose(sink, expected, atol=1e-5)


def test_compare_reads_a_file_of_tokens_and_draws_its_report_again(token_files, folders, huggingface, tmp_path):
    tokens, files = token_files
    arguments = ["--models", folders["no tokenizer"], "--tokens", files[0], "--prompts", "8", "--draws", "1"]
    assert call("compare", *arguments, "--out", tmp_path / "out") == 0
    parts = results.load_parts(next((tmp_path / "out" / "networks").iterdir()))
    expected = losses(huggingface["no tokenizer"], tokens)
    np.testing.assert_allclose(parts["ablation_text"]["baseline"][:, :-1], expected, atol=1e-5)
    assert call("compare", "--from", tmp_path / "out", "--out", tmp_path / "again") == 0
    pages = [(tmp_path / name / "report.html").read_text(encoding="utf-8") for name in ("out", "again")]
    assert pages[0] == pages[1]
    assert f"tokens of {files[0]}" in pages[0]


# Prompts of different lengths, and bad input -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "prompts", "expected"),
    [
        ([500], 4, [40] * 4),  # one long prompt is cut
        ([30], 4, [30]),  # one short one is not
        ([30, 20, 10, 5], 2, [20] * 2),  # the most tokens that two prompts have
        ([30, 20, 10], 8, [15] * 3),  # the most that three pieces have, where the file has three prompts
    ],
)
def test_prompts_of_different_lengths_are_cut_to_one(lengths, prompts, expected, folders, tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(" ".join(map(str, np.arange(n) % 40)) for n in lengths))
    config = find_study("local_vs_global").config(tokens=str(file), prompts=prompts)
    model = neolens.load(folders["no tokenizer"])
    text = inputs.read(model, inputs.source(config, [model.anatomy], 40))
    assert [len(row) for row in text.tokens] == expected
    assert torch.equal(text.tokens[0], read_tokens(file, model.anatomy)[0][: len(text.tokens[0])])


@pytest.mark.parametrize("experiment", ["local_vs_global", "head_ablation", "compare"])
def test_text_and_tokens_together_are_one_error(experiment, tmp_path, capsys):
    arguments = ["--text", "a.txt", "--tokens", "b.npy"]
    message = "text a.txt and tokens b.npy: give one of the two"
    shell.refused(lambda *rest: call(experiment, *rest), arguments, message, tmp_path, capsys)


def test_a_token_outside_the_vocabulary_is_refused_by_name(folders, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("1 2 3\n4 39 40\n")
    arguments = ["--models", folders["no tokenizer"], "--tokens", str(tmp_path / "ids.txt")]
    shell.refused(lambda *rest: call("local_vs_global", *rest), arguments, "line 2 holds token 40", tmp_path, capsys)


@pytest.fixture(scope="module")
def unknown_field(folders, tmp_path_factory):
    """A model whose config has a field that neolens does not know."""
    folder = tmp_path_factory.mktemp("field")
    GPT2LMHeadModel.from_pretrained(folders["no tokenizer"]).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"frobnicate": 3}))
    return str(folder)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_refuses_an_unknown_config_field(experiment, unknown_field, tmp_path, capsys):
    shell.refused(lambda *rest: call(experiment, *rest), ["--models", unknown_field], "frobnicate", tmp_path, capsys)


def test_an_unknown_config_field_is_ignored_when_it_is_named(unknown_field, tmp_path):
    arguments = ["--models", unknown_field, "--ignore-fields", "frobnicate", *EXPERIMENTS["local_vs_global"]]
    assert call("local_vs_global", *arguments, "--out", tmp_path) == 0
    assert json.loads((tmp_path / "record.json").read_text())["config"]["ignore_fields"] == ["frobnicate"]
    assert "--ignore-fields frobnicate" in (tmp_path / "report.html").read_text(encoding="utf-8")


# Induction in random tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("distance", [2, 3, 9, 40])
def test_random_induction_is_a_segment_that_repeats(bos, distance, folders):
    pairs = random_induction(neolens.load(folders["33 tokens"]), 5, distance=distance, seed=1, prepend_bos=bos)
    for number, (clean, corrupted) in enumerate(zip(pairs.clean, pairs.corrupted)):
        source, query, previous = (int(pairs.positions[name][number]) for name in ("source", "query", "previous"))
        assert query - source == distance
        assert query == len(clean) - 1
        assert previous == source - 1
        assert (clean[0] == 2) == bos
        assert clean[source] == pairs.answers[number]
        assert clean[previous] == clean[query]  # B C ... B, answer C
        assert (clean == pairs.distractors[number]).any()
        assert (clean != corrupted).nonzero().flatten().tolist() == [source]
        assert not (clean == corrupted[source]).any()


def test_a_family_that_a_model_reads_is_not_left_out(folders):
    assert inputs.unreadable(neolens.load("lab/gpt2"), indirect_object) is None
    assert "are one token" in inputs.unreadable(neolens.load(folders["BERT"]), indirect_object)
