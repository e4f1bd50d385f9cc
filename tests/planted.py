"""Networks of planted heads, built by hand among random ones: ordinary Hugging Face models with patterns known exactly.

The residual stream is cut into parts (`PARTS`). Token and place are written as two digits each, every digit one-hot,
so that two tokens agree in both digits, in one or in none. A planted head scores key j from query i by

    SHARP s_i s_j (agree - c),

where `agree` counts the digits that agree, c lies between what the key meant and every other key reach, and s > 0 is
what the layer norm multiplies by, whatever it is: all that is read is read less `ground`, a dimension that nobody
writes to, which takes the mean out again. So the key meant scores above 0 and all others below, but for the first
token, which has no digits and scores 0: a head rests on it where there is no key meant. Such scores lie 200 and more
apart, and exp(-104) is 0 in float32: attention is exactly 1.0 on one key and exactly 0.0 on all others.

The previous-token head copies what it sees into `was`, the induction head looks there for its own token and writes
what followed into `said`, which the unembedding reads: a circuit of two layers. The other planted heads write nothing.
Random heads and MLPs read everything and write into `rest`, which they read too, as does the unembedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoConfig, GPTNeoXConfig, PreTrainedModel

LAYERS, HEADS, D_HEAD, D_MLP = 4, 4, 44, 48
D_MODEL = HEADS * D_HEAD
BASE, PLACES = 9, 12
"""Digits are 0 to 8 in tokens 1 to 81, 0 to 11 in places 1 to 143; the first token, 0, stands at place 0."""
VOCAB, CONTEXT = BASE**2 + 1, PLACES**2
WINDOW = 48
ROTARY = D_HEAD // 2

_SIZES = dict(token=2 * BASE, place=2 * PLACES, before=2 * PLACES, was=2 * BASE + 1, said=2 * BASE)
_SIZES |= dict(first=1, later=1, ground=1)
_SIZES |= dict(rest=D_MODEL - sum(_SIZES.values()))
_ENDS = torch.tensor(list(_SIZES.values())).cumsum(0).tolist()
PARTS = {name: list(range(end - size, end)) for (name, size), end in zip(_SIZES.items(), _ENDS)}
"""`token` and `place` of this position, the place `before`; token and `later` of what `was` before, and the token that
is `said` to follow, both empty until heads write there; a flag of the `first` position, and one of all `later` ones."""
ANY = PARTS["first"] + PARTS["later"]
"""Their sum is 1 everywhere."""

SHARP = 10_000.0
SPREAD = 2.0
"""Standard deviation of a random head's scores, as of those of tests/tiny.py."""


@dataclass
class Head:
    """Maps from the normalised stream to q, k and v [d_model, d_head], and from z back [d_head, d_model]."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    b_q: Tensor
    b_k: Tensor
    b_v: Tensor


def digits(number: int, base: int) -> Tensor:
    """Two digits, each one-hot."""
    code = torch.zeros(2 * base)
    code[number // base] = code[base + number % base] = 1.0
    return code


def token_digits() -> Tensor:
    """[token, two digits]: none for the first token."""
    return torch.stack([torch.zeros(2 * BASE), *(digits(token, BASE) for token in range(BASE**2))])


class Rest:
    """What is random, drawn by one seed: large enough to matter, as in tests/tiny.py."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, spread: float) -> Tensor:
        return spread * torch.randn(*shape, generator=self.generator)

    def into_rest(self, *rows: int, spread: float) -> Tensor:
        """[*rows, d_model], 0 but in `rest`."""
        written = torch.zeros(*rows, D_MODEL)
        written[..., PARTS["rest"]] = self.normal(*rows, len(PARTS["rest"]), spread=spread)
        return written

    def tokens(self) -> Tensor:
        """[token, d_model]: its digits, a flag that tells the first token from later ones, and a random rest."""
        codes = self.into_rest(VOCAB, spread=0.7)
        codes[:, PARTS["token"]] = token_digits()
        codes[0, PARTS["first"]], codes[1:, PARTS["later"]] = 1.0, 1.0
        return codes

    def places(self) -> Tensor:
        """[pos, d_model]: the digits of the place and of the one before, and a random rest; place 0 has no digits."""
        codes = self.into_rest(CONTEXT, spread=0.7)
        numbers = torch.stack([torch.zeros(2 * PLACES), *(digits(place, PLACES) for place in range(1, CONTEXT))])
        codes[:, PARTS["place"]] = numbers
        codes[1:, PARTS["before"]] = numbers[:-1]
        return codes

    def head(self, scale: float, biased: bool) -> Head:
        """The squares of normalised activations sum to d_model, so a score, a sum over d_head products, spreads by
        scale sqrt(d_head) d_model spread^2."""
        spread = (SPREAD / scale / D_HEAD**0.5 / D_MODEL) ** 0.5
        q, k = (self.normal(D_MODEL, D_HEAD, spread=spread) for _ in "qk")
        v = self.normal(D_MODEL, D_HEAD, spread=D_MODEL**-0.5)
        b_q, b_k, b_v = (self.normal(D_HEAD, spread=0.3 if biased else 0.0) for _ in "qkv")
        return Head(q, k, v, self.into_rest(D_HEAD, spread=0.3 * D_HEAD**-0.5), b_q, b_k, b_v)


class Scorer:
    """Builds a head's q and k, dimension by dimension, from d = `first` on."""

    def __init__(self, first: int = 0) -> None:
        shape = (D_MODEL, D_HEAD)
        self.head = Head(*(torch.zeros(shape) for _ in "qkv"), torch.zeros(shape[::-1]), *torch.zeros(3, D_HEAD))
        self.at = first

    def agree(self, query: list[int], key: list[int], weight: float = 1.0) -> None:
        """Add weight times the number of dimensions of the stream that are 1 both here and there."""
        columns = range(self.at, self.at + len(query))
        self.at += len(query)
        _read(self.head.q, columns, query, 1.0)
        _read(self.head.k, columns, key, weight)

    def less(self, c: float, key: list[int]) -> None:
        """Take c times a flag of the key from the score, whatever the query."""
        for flag in ANY:
            _read(self.head.q, [self.at], [flag], 1.0)
        _read(self.head.k, [self.at], key, -c)
        self.at += 1

    def copy(self, source: list[int], to: list[int], weight: float) -> None:
        """v reads `source`, and z is written to `to`."""
        columns = range(len(source))
        _read(self.head.v, columns, source, 1.0)
        self.head.o[columns, to] = weight


def _read(into: Tensor, columns, rows: list[int], weight: float) -> None:
    for column, row in zip(columns, rows, strict=True):
        into[row, column] += weight
        into[PARTS["ground"][0], column] -= weight


def planted(role: str, scale: float, frequencies: Tensor | None) -> Head:
    """A head of that role. With `frequencies`, of a rotary model, whose places are known by rotation alone."""
    part, scorer = PARTS, Scorer(0 if frequencies is None else ROTARY)
    if role == "previous_token":
        scorer.copy(part["token"] + part["later"], part["was"], 0.3)
        if frequencies is None:
            scorer.agree(part["before"], part["place"])  # 2 one place back, at most 1 elsewhere
            scorer.less(3 / 2, part["later"])
        else:
            _turn(scorer.head, frequencies, steps=1)
    elif role == "duplicate_token":
        scorer.agree(part["token"], part["token"])
        if frequencies is None:  # 2 - {0, 1/2} - 5/4 > 0; here itself 2 - 1 - 5/4 < 0; another token 1 - 5/4 < 0
            scorer.agree(part["place"], part["place"], -1 / 2)
            scorer.less(5 / 4, part["later"])
        else:  # 2 - 0.6 near - 3/2, > 0 where near < 0.8; here itself 2 - 0.6 - 3/2 < 0
            _near(scorer.head, 0.6)
            scorer.less(3 / 2, part["later"])
    elif role == "induction":  # `was` holds a multiple of digits and flag; position 1, before which nothing was, -1/20
        scorer.agree(part["token"], part["was"][:-1])
        scorer.less(3 / 2, part["was"][-1:])
        scorer.less(1 / 20, part["later"])
        scorer.copy(part["token"], part["said"], 2.0)
    elif role == "sink":  # a head that never finds what it looks for
        scorer.less(1.0, part["later"])
    elif role == "local_only":
        if frequencies is None:  # 1 - 1 = 0 for every key of the query's dozen, so all alike; 0 - 1 elsewhere
            scorer.agree(part["place"][:PLACES], part["place"][:PLACES])
            for flag in ANY:
                scorer.less(1.0, [flag])
        else:
            _turn(scorer.head, frequencies, steps=0)
    else:
        raise KeyError(role)
    scorer.head.k *= SHARP / scale
    scorer.head.b_k *= SHARP / scale
    return scorer.head


def _turn(head: Head, frequencies: Tensor, steps: int) -> None:
    """Constant q and k: score SHARP sum_m cos(f_m (i - j - steps)), highest where i - j = steps."""
    half = len(frequencies)
    head.b_q[:half], head.b_q[half : 2 * half] = (frequencies * steps).cos(), -(frequencies * steps).sin()
    head.b_k[:half] = 1.0


def _near(head: Head, weight: float) -> None:
    """Take weight times near = mean_m cos(f_m (i - j)) over the four fastest frequencies from every later key."""
    for pair in range(4):
        for flag in ANY:
            _read(head.q, [pair], [flag], 1.0)
        _read(head.k, [pair], PARTS["later"], -weight / 4)


# The three families -------------------------------------------------------------------------------------------------


def gpt2(heads: Mapping[tuple[int, int], str], seed: int = 0) -> PreTrainedModel:
    """GPT-2 with these planted heads, (layer, head) -> role, all others random."""
    config = GPT2Config(
        n_layer=LAYERS, n_head=HEADS, n_embd=D_MODEL, n_inner=D_MLP, n_positions=CONTEXT, vocab_size=VOCAB,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    rest, state = Rest(seed), {}
    state["transformer.wte.weight"], state["transformer.wpe.weight"] = rest.tokens(), rest.places()
    for layer in range(LAYERS):
        at, made = f"transformer.h.{layer}", _heads(layer, heads, rest, D_HEAD**-0.5, biased=True)
        joint = [torch.cat([getattr(head, part) for head in made], dim=-1) for part in "qkv"]
        biases = [torch.cat([getattr(head, f"b_{part}") for head in made]) for part in "qkv"]
        state[f"{at}.attn.c_attn.weight"], state[f"{at}.attn.c_attn.bias"] = torch.cat(joint, -1), torch.cat(biases)
        state[f"{at}.attn.c_proj.weight"] = torch.cat([head.o for head in made])
        state[f"{at}.mlp.c_fc.weight"], state[f"{at}.mlp.c_fc.bias"], state[f"{at}.mlp.c_proj.weight"] = _mlp(rest)
    return _model(config, state, rest)


def gpt_neo(heads: Mapping[tuple[int, int], str], seed: int = 0, window: int = WINDOW) -> PreTrainedModel:
    """GPT-Neo: layers 0 and 2 global, 1 and 3 local; scores not scaled, q, k and v without bias.

    A query that no longer sees the first token cannot rest on it, so a local layer wants n < window, and no sink.
    """
    config = GPTNeoConfig(
        num_layers=LAYERS, num_heads=HEADS, hidden_size=D_MODEL, intermediate_size=D_MLP, window_size=window,
        max_position_embeddings=CONTEXT, vocab_size=VOCAB, attention_types=[[["global", "local"], LAYERS // 2]],
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    rest, state = Rest(seed), {}
    state["transformer.wte.weight"], state["transformer.wpe.weight"] = rest.tokens(), rest.places()
    for layer in range(LAYERS):
        at, made = f"transformer.h.{layer}", _heads(layer, heads, rest, 1.0, biased=False)
        for part in "qkv":
            state[f"{at}.attn.attention.{part}_proj.weight"] = torch.cat([getattr(head, part) for head in made], -1).T
        state[f"{at}.attn.attention.out_proj.weight"] = torch.cat([head.o for head in made]).T
        up, bias, down = _mlp(rest)
        state[f"{at}.mlp.c_fc.weight"], state[f"{at}.mlp.c_fc.bias"] = up.T, bias
        state[f"{at}.mlp.c_proj.weight"] = down.T
    return _model(config, state, rest)


def neox(heads: Mapping[tuple[int, int], str], seed: int = 0, parallel: bool = True) -> PreTrainedModel:
    """GPT-NeoX: half of every head's dimensions are rotary, and nothing else tells places apart."""
    config = GPTNeoXConfig(
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, hidden_size=D_MODEL, intermediate_size=D_MLP,
        max_position_embeddings=CONTEXT, vocab_size=VOCAB, rotary_pct=ROTARY / D_HEAD, use_parallel_residual=parallel,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    rest, state = Rest(seed), {}
    state["gpt_neox.embed_in.weight"] = rest.tokens()
    frequencies = config.rope_parameters["rope_theta"] ** (-torch.arange(0, ROTARY, 2) / ROTARY)
    for layer in range(LAYERS):
        at, made = f"gpt_neox.layers.{layer}", _heads(layer, heads, rest, D_HEAD**-0.5, True, frequencies)
        joint = torch.cat([torch.cat([head.q, head.k, head.v], -1) for head in made], -1)
        state[f"{at}.attention.query_key_value.weight"] = joint.T
        biases = torch.cat([torch.cat([head.b_q, head.b_k, head.b_v]) for head in made])
        state[f"{at}.attention.query_key_value.bias"] = biases
        state[f"{at}.attention.dense.weight"] = torch.cat([head.o for head in made]).T
        up, bias, down = _mlp(rest)
        state[f"{at}.mlp.dense_h_to_4h.weight"], state[f"{at}.mlp.dense_h_to_4h.bias"] = up.T, bias
        state[f"{at}.mlp.dense_4h_to_h.weight"] = down.T
    return _model(config, state, rest)


ABSOLUTE = ("gpt2", "gpt-neo")
FAMILIES = {
    "gpt2": gpt2,
    "gpt-neo": gpt_neo,
    "pythia": neox,
    "neox-sequential": lambda heads, seed=0: neox(heads, seed, parallel=False),
}


def _heads(layer, heads, rest: Rest, scale: float, biased: bool, frequencies: Tensor | None = None) -> list[Head]:
    """A layer's heads. Random ones are drawn for every place, so that a seed's do not depend on what is planted."""
    drawn = [rest.head(scale, biased) for _ in range(HEADS)]
    roles = [heads.get((layer, head)) for head in range(HEADS)]
    return [planted(role, scale, frequencies) if role else other for role, other in zip(roles, drawn, strict=True)]


def _mlp(rest: Rest) -> tuple[Tensor, Tensor, Tensor]:
    up, bias = rest.normal(D_MODEL, D_MLP, spread=D_MODEL**-0.5), rest.normal(D_MLP, spread=0.3)
    return up, bias, rest.into_rest(D_MLP, spread=0.3 * D_MLP**-0.5)


def _model(config, state: dict[str, Tensor], rest: Rest) -> PreTrainedModel:
    """The model with these weights; biases 0 and norms 1 unless they are named. The unembedding reads `said`, digit by
    digit, and everything else at random."""
    unembedding = rest.normal(VOCAB, D_MODEL, spread=D_MODEL**-0.5)
    unembedding[:, PARTS["said"]] = 2 * token_digits()
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    left = dict(model.named_parameters())
    with torch.no_grad():
        model.get_output_embeddings().weight.copy_(unembedding)
        for name, weight in state.items():
            left.pop(name).copy_(weight)
        for name, weight in left.items():
            if name.endswith("bias"):
                weight.zero_()
    return model


# What is known of them ----------------------------------------------------------------------------------------------


def key(role: str, query: int, n: int) -> int:
    """The one key that a planted head attends to, on [0, r_1..r_n, r_1..r_n] with n different r; 0 where it rests."""
    second = query > n
    return {
        "previous_token": max(query - 1, 0),
        "duplicate_token": query - n if second else 0,
        "induction": query - n + 1 if second else 0,
        "sink": 0,
    }[role]
