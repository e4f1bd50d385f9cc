"""Bad arguments of the model itself, which TransformerLens would ignore or let Hugging Face stumble over: one line."""

import numpy as np
import pytest
import torch

import neolens
from neolens import position

pytestmark = pytest.mark.untyped

TOKENS = torch.tensor([[1, 5, 6, 7, 8]])
POINT = "blocks.0.hook_resid_pre"
NAN = float("nan")


@pytest.fixture(scope="module")
def model():
    return neolens.load("lab/gpt2")


FORWARD = [
    ({"retrun_type": "loss"}, "no argument 'retrun_type' of forward: did you mean return_type?"),
    ({"temperature": 1.0}, "no argument 'temperature' of forward: expected one of "),
    ({"return_type": "Logits"}, "no return_type 'Logits': did you mean logits"),
    ({"return_type": ["loss"]}, "return_type ['loss']: expected"),
    ({"loss_per_token": "yes"}, "loss_per_token 'yes': expected True or False"),
    ({"loss_per_token": None}, "loss_per_token None: expected True or False"),
    ({"prepend_bos": 1.5}, "prepend_bos 1.5: expected True or False"),
    ({"use_cache": "x"}, "use_cache 'x': expected True or False"),
    ({"padding_side": "top"}, "no padding_side 'top': expected left or right"),
    ({"pixel_values": torch.zeros(1)}, "reads text alone; leave pixel_values out"),
    ({"input_values": 3}, "input_values 3: lab/gpt2 reads text alone"),
    ({"past_key_values": 3}, "past_key_values 3: expected the cache"),
    ({"attention_mask": [1]}, "attention_mask [1]: expected a tensor [prompt, pos]"),
    ({"attention_mask": torch.ones(1, 3)}, "attention_mask of shape (1, 3): expected that of the tokens, (1, 5)"),
    ({"attention_mask": torch.full((1, 5), 0.5)}, "attention_mask holds 0.5: expected [prompt, pos], 1 where"),
    ({"attention_mask": torch.full((1, 5), NAN)}, "attention_mask holds nan"),
    ({"position_ids": torch.arange(3)[None]}, "position_ids of shape (1, 3): expected that of the tokens"),
    ({"position_ids": torch.arange(5)[None] - 1}, "position_ids from -1 to 3: lab/gpt2 learned positions 0 to 127"),
    ({"position_ids": torch.zeros(1, 5)}, "expected an integer tensor [prompt, pos]"),
    ({"labels": "x"}, "labels 'x': expected an integer tensor [prompt, pos]"),
    ({"labels": torch.full((1, 5), 999)}, "labels holds token 999"),
    ({"labels": torch.ones(1, 3, dtype=torch.long)}, "labels of shape (1, 3): expected that of the tokens"),
    ({"stop_at_layer": 1.5}, "stop_at_layer 1.5: expected a whole number"),
    ({"stop_at_layer": 99}, "stop_at_layer 99: expected a whole number from -4 to 4"),
    ({"start_at_layer": 1}, "expected with start_at_layer a residual stream [prompt, pos, 64] of float32"),
]

CACHED = [
    ({"name_filter": None}, "no argument 'name_filter' of run_with_cache: did you mean names_filter?"),
    ({"names_filter": 3}, "names_filter 3: expected a name, a list of names or a function of one"),
    ({"names_filter": [3]}, "names_filter [3]: expected a name"),
    ({"names_filter": "hook_embd"}, "did you mean hook_embed"),
    ({"names_filter": lambda: True}, "expected the name of a hook point, one of model.hook_dict, or a function of it"),
    ({"names_filter": int}, "names_filter <class 'int'>"),
    ({"remove_batch_dim": "x"}, "remove_batch_dim 'x': expected True or False"),
    ({"return_cache_object": None}, "return_cache_object None: expected True or False"),
    ({"device": "tpu9"}, "no device 'tpu9': expected a torch device"),
    ({"device": 1.5}, "device 1.5: expected a torch device"),
    ({"pos_slice": "x"}, "pos_slice 'x': expected a position, a slice or a list of positions"),
    ({"pos_slice": []}, "pos_slice []: expected"),
    ({"incl_bwd": True}, "incl_bwd=True: expected return_type='loss'"),
    ({"pos_slice": (1.5, 2)}, "pos_slice 1.5: expected a whole number"),
]

GENERATED = [
    ({"max_new_tokens": 125}, "max_new_tokens 125 after 5 tokens: lab/gpt2 has 128 positions; expected at most 124"),
    ({"max_new_tokens": 10**30}, "expected at most 124"),
    ({"max_new_tokens": 0}, "max_new_tokens 0: expected a whole number of at least 1"),
    ({"temprature": 1}, "no argument 'temprature' of generate: did you mean temperature?"),
    ({"max_tokens": 3}, "no argument 'max_tokens' of generate: did you mean max_new_tokens"),
    ({"temperature": -1}, "temperature -1: expected a number from 0 to 1000000"),
    ({"temperature": None}, "temperature None: expected a number"),
    ({"temperature": 10**30}, "expected a number from 0 to 1000000"),
    ({"temperature": NAN}, "temperature nan: expected a number"),
    ({"top_k": 0}, "top_k 0: expected a whole number of tokens, at least 1"),
    ({"top_p": 1.5}, "top_p 1.5: expected a number above 0, at most 1"),
    ({"freq_penalty": "x"}, "freq_penalty 'x': expected a number"),
    ({"repetition_penalty": 0}, "repetition_penalty 0: expected a number above 0"),
    ({"eos_token_id": 999}, "eos_token_id 999: expected a whole number from 0 to 203"),
    ({"return_type": "text"}, "no return_type 'text': expected input, str or tokens"),
    ({"stop_strings": [""]}, "stop_strings ['']: expected strings that are not empty"),
    ({"stop_strings": 3}, "stop_strings 3: expected a list of strings"),
    ({"stopping_criteria": 3}, "stopping_criteria 3: expected a transformers.StoppingCriteria"),
    ({"forced_bos_token_id": 3}, "forced_bos_token_id 3: lab/gpt2 reads text alone"),
    ({"do_sample": "no"}, "do_sample 'no': expected True or False"),
    ({"attention_mask": torch.ones(1, 3)}, "attention_mask of shape (1, 3): expected that of the tokens"),
    ({"padding_side": 1}, "padding_side 1: expected left or right"),
    ({"names_filter": 3}, "names_filter 3: expected a name"),
]

TEXTS = [
    ("to_tokens", ([],), "input []: expected at least one text"),
    ("to_tokens", (3,), "input 3: expected a list of texts"),
    ("to_tokens", (["the", 3],), "input 3: expected a string"),
    ("to_tokens", ("the", "yes"), "prepend_bos 'yes': expected True or False"),
    ("to_tokens", ("the", None, "top"), "no padding_side 'top': expected left or right"),
    ("to_string", ("x",), "tokens 'x': expected tokens"),
    ("to_string", (999,), "no token 999 in lab/gpt2: tokens are 0 to 203"),
    ("to_string", ([-1],), "no token -1 in lab/gpt2"),
    ("to_string", (torch.zeros(2, 2, 2, dtype=torch.long),), "tokens of shape (2, 2, 2): expected tokens"),
    ("to_string", (1.5,), "tokens 1.5: expected tokens"),
    ("to_str_tokens", (None,), "tokens None: expected tokens"),
    ("to_str_tokens", (torch.zeros(2, 3, dtype=torch.long),), "expected one prompt [pos]"),
    ("to_single_token", ("the weaver",), "string 'the weaver': expected a single token, it has 2"),
    ("to_single_token", (3,), "string 3: expected a string"),
    ("to_single_str_token", (999,), "no token 999 in lab/gpt2"),
    ("to_single_str_token", ("x",), "token 'x': expected a whole number"),
    ("get_token_position", ("the", "a weaver"), "token 'the' does not occur in input"),
    ("get_token_position", (5, TOKENS, "middle"), "no mode 'middle': expected first or last"),
    ("get_token_position", (1.5, TOKENS), "token 1.5: expected a whole number"),
    ("tokens_to_residual_directions", (999,), "no token 999 in lab/gpt2"),
    ("accumulated_bias", (99,), "layer 99: expected a whole number from 0 to 4"),
    ("block_hooks", (99,), "no layer 99 in lab/gpt2: layers are 0 to 3"),
    ("all_composition_scores", ("q",), "no mode 'q': did you mean Q?"),
    ("set_use_attn_result", ("yes",), "use_attn_result 'yes': expected True or False"),
    ("add_hook", (POINT, 3), "hook 3: expected a function (activation, hook)"),
    ("add_hook", (POINT, lambda x: x), "expected a function (activation, hook)"),
    ("add_hook", (3, print), "name 3: expected the name of a hook point"),
    ("add_hook", (POINT, lambda x, hook: None, "up"), "no dir 'up': expected fwd or bwd"),
    ("__setattr__", ("tokenizer", 3), "tokenizer 3: expected a Hugging Face tokenizer, or None"),
]


def _refused(call, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 330


@pytest.fixture
def idle(monkeypatch):
    """Layers that may not run."""
    monkeypatch.setattr(torch.nn.functional, "embedding", lambda *args, **kwargs: pytest.fail("the model ran"))


@pytest.mark.parametrize(("options", "words"), FORWARD)
def test_a_wrong_option_of_a_forward_pass_is_refused_before_it(options, words, model, idle):
    _refused(lambda: model(TOKENS, **options), words)
    _refused(lambda: model.run_with_hooks(TOKENS, **options), words.replace("of forward", "of run_with_hooks"))


@pytest.mark.parametrize(("options", "words"), CACHED)
def test_a_wrong_option_of_a_cache_is_refused_before_the_run(options, words, model, idle):
    _refused(lambda: model.run_with_cache(TOKENS, **options), words)


@pytest.mark.parametrize(("options", "words"), GENERATED)
def test_a_wrong_option_of_generate_is_refused_before_the_first_token(options, words, model, idle):
    _refused(lambda: model.generate(TOKENS, **{"max_new_tokens": 2, "verbose": False} | options), words)


@pytest.mark.parametrize(("method", "args", "words"), TEXTS)
def test_a_wrong_argument_of_another_method_is_refused(method, args, words, model):
    _refused(lambda: getattr(model, method)(*args), words)
    assert not model.hook_dict[POINT].fwd_hooks


RETURNED = [
    ("text", lambda x: "x", TypeError, "returned 'x': expected a tensor of shape (1, 5, 64), float32, on cpu, or None"),
    ("a number", lambda x: 3, TypeError, "returned 3: expected a tensor"),
    ("an array", lambda x: x.numpy(), TypeError, "returned ndarray of shape (1, 5, 64)"),
    ("another shape", lambda x: x[:, :2], ValueError, "returned a tensor of shape (1, 2, 64)"),
    ("another dtype", lambda x: x.double(), ValueError, "returned a tensor of shape (1, 5, 64), float64"),
    ("another device", lambda x: x.to("meta"), ValueError, "on meta: expected a tensor"),
]


@pytest.mark.parametrize(("_", "edit", "error", "words"), RETURNED)
def test_a_hook_that_returns_something_else_than_an_activation_is_named(_, edit, error, words, model):
    with torch.no_grad(), pytest.raises(error) as caught:
        model.run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.hook_attn_out", lambda x, hook: edit(x))])
    assert "hook at blocks.1." in str(caught.value)
    assert words in str(caught.value)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_a_hook_may_return_nothing_or_an_activation(model):
    logits = model(TOKENS)
    assert torch.equal(model.run_with_hooks(TOKENS, fwd_hooks=[(POINT, lambda x, hook: None)]), logits)
    assert not torch.equal(model.run_with_hooks(TOKENS, fwd_hooks=[(POINT, lambda x, hook: 2 * x)]), logits)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("hook_embd", "did you mean hook_embed"),
        ("nope", "no activation 'nope' in the cache of lab/gpt2"),
        (("q", 99), "no activation ('q', 99)"),
        (3, "no activation 3"),
        (None, "no activation None"),
    ],
)
def test_a_cached_activation_that_is_not_there_is_named_with_the_nearest(key, words, model):
    _, cache = model.run_with_cache(TOKENS)
    _refused(lambda: cache[key], words)
    assert torch.equal(cache["q", 0], cache["blocks.0.attn.hook_q"])


def test_what_cannot_change_the_mathematics_is_accepted(model):
    greedy = {"do_sample": False, "verbose": False}
    assert model.generate(TOKENS, max_new_tokens=np.int64(2), **greedy).shape == (1, 7)
    assert model.generate(TOKENS, 124, stop_at_eos=False, **greedy).shape == (1, 129)
    assert model.to_string(np.array([5, 6])) == model.to_string([5, 6]) == model.to_string(torch.tensor([5, 6]))
    assert model(TOKENS, attention_mask=torch.ones(1, 5)).shape == model(TOKENS[0]).shape
    by_tuple, by_list = (model.run_with_cache(TOKENS, names_filter=kind(["hook_embed"]))[1] for kind in (tuple, list))
    assert list(by_tuple) == list(by_list)


def test_prompts_that_are_many_times_the_context_are_refused_with_the_positions():
    pythia = neolens.load("lab/pythia")
    far = torch.zeros(1, 64 * pythia.anatomy.context + 1, dtype=torch.long)
    _refused(lambda: position.beyond_context(pythia, far), "expected at most 8192, positions 0 to 8191, 64 times")


def test_a_score_with_a_line_break_in_its_name_is_refused_in_one_line(model):
    pythia = neolens.load("lab/pythia")
    result = position.bands(pythia, TOKENS, [0], progress=False)
    _refused(lambda: position.taken_away(result, "a\nb"), "no a\\nb_held of heads in the result")
