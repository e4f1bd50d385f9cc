"""A second implementation of everything that has a number: naive, plain, and sharing no code with neolens.

`forward` is the forward pass of GPT-2, GPT-Neo and GPT-NeoX (parallel and sequential blocks), written from
the definitions and read straight from a Hugging Face state dict. It stores every activation under
TransformerLens's name and in TransformerLens's shape, lets any of them be edited on the way, runs in any
precision and is differentiable, so that gradients are oracle values too. Below it stand the scores of one
head, as loops over the cells of its pattern. Slow on purpose: nothing here is to be clever.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Edit = Mapping[str, Callable[[Tensor], Tensor]]


# ----------------------------------------------------------------------------------------------------
# Weights, as they stand in the checkpoint
# ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Layer:
    """One block; attention cut by head: `w_q[head, d_model, d_head]`, `w_o[head, d_head, d_model]`."""

    ln1: Norm
    ln2: Norm
    w_q: Tensor
    w_k: Tensor
    w_v: Tensor
    b_q: Tensor
    b_k: Tensor
    b_v: Tensor
    w_o: Tensor
    b_o: Tensor
    w_in: Tensor
    b_in: Tensor
    w_out: Tensor
    b_out: Tensor


@dataclass(frozen=True)
class Network:
    """The weights of one model and the facts of its config that change the mathematics."""

    embed: Tensor
    pos_embed: Tensor | None
    layers: list[Layer]
    ln_final: Norm
    unembed: Tensor
    eps: float
    activation: str
    windows: list[int | None]
    scales: list[float]
    parallel: bool
    rotary_dims: int
    rotary_base: float

    @property
    def sites(self) -> list[str]:
        """Every name that an edit may have in this network."""
        names = ["hook_embed"] + (["hook_pos_embed"] if self.pos_embed is not None else [])
        for layer in range(len(self.layers)):
            names += [f"blocks.{layer}.{site}" for site in _block_sites(self)]
        return names


def _block_sites(network: Network) -> list[str]:
    rotary = ["attn.hook_rot_q", "attn.hook_rot_k"] if network.rotary_dims else []
    middle = [] if network.parallel else ["hook_resid_mid"]
    return [
        *["hook_resid_pre", "hook_attn_in", "hook_q_input", "hook_k_input", "hook_v_input"],
        *["attn.hook_q", "attn.hook_k", "attn.hook_v", *rotary],
        *["attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_z", "attn.hook_result"],
        *["hook_attn_out", *middle, "hook_mlp_in", "hook_mlp_out", "hook_resid_post"],
    ]


def network(hf_model: torch.nn.Module, dtype: torch.dtype = torch.float64, grad: bool = False) -> Network:
    """The weights of a Hugging Face model, copied, in `dtype`; with `grad`, differentiable leaves."""
    state = {
        name: tensor.detach().clone().to(dtype).requires_grad_(grad)
        for name, tensor in hf_model.state_dict().items()
        if tensor.is_floating_point()
    }
    readers = {"gpt2": _read_gpt2, "gpt_neo": _read_gpt_neo, "gpt_neox": _read_gpt_neox}
    return readers[hf_model.config.model_type](state, hf_model.config)


def _norm(state: Mapping[str, Tensor], name: str) -> Norm:
    return Norm(state[f"{name}.weight"], state[f"{name}.bias"])


def _heads_out(weight: Tensor, heads: int) -> Tensor:
    """A projection `[d_model, (head, d_head)]` cut into heads: `[head, d_model, d_head]`."""
    width = weight.shape[1] // heads
    return torch.stack([weight[:, h * width : (h + 1) * width] for h in range(heads)])


def _heads_in(weight: Tensor, heads: int) -> Tensor:
    """A projection `[(head, d_head), d_model]` cut into heads: `[head, d_head, d_model]`."""
    width = weight.shape[0] // heads
    return torch.stack([weight[h * width : (h + 1) * width] for h in range(heads)])


def _heads_bias(bias: Tensor, heads: int) -> Tensor:
    width = bias.shape[0] // heads
    return torch.stack([bias[h * width : (h + 1) * width] for h in range(heads)])


def _read_gpt2(state: Mapping[str, Tensor], config) -> Network:
    """GPT-2: one matrix `[d_model, 3 d_model]` holds q, then k, then v; all matrices are `[in, out]`."""
    layers = []
    for index in range(config.n_layer):
        at = f"transformer.h.{index}"
        d, heads = config.n_embd, config.n_head
        joint, joint_bias = state[f"{at}.attn.c_attn.weight"], state[f"{at}.attn.c_attn.bias"]
        w_q, w_k, w_v = (_heads_out(joint[:, part * d : (part + 1) * d], heads) for part in range(3))
        b_q, b_k, b_v = (_heads_bias(joint_bias[part * d : (part + 1) * d], heads) for part in range(3))
        layers.append(
            Layer(
                ln1=_norm(state, f"{at}.ln_1"),
                ln2=_norm(state, f"{at}.ln_2"),
                **dict(w_q=w_q, w_k=w_k, w_v=w_v, b_q=b_q, b_k=b_k, b_v=b_v),
                w_o=_heads_in(state[f"{at}.attn.c_proj.weight"], heads),
                b_o=state[f"{at}.attn.c_proj.bias"],
                w_in=state[f"{at}.mlp.c_fc.weight"],
                b_in=state[f"{at}.mlp.c_fc.bias"],
                w_out=state[f"{at}.mlp.c_proj.weight"],
                b_out=state[f"{at}.mlp.c_proj.bias"],
            )
        )
    tied = config.tie_word_embeddings
    return Network(
        embed=state["transformer.wte.weight"],
        pos_embed=state["transformer.wpe.weight"],
        layers=layers,
        ln_final=_norm(state, "transformer.ln_f"),
        unembed=state["transformer.wte.weight"] if tied else state["lm_head.weight"],
        eps=config.layer_norm_epsilon,
        activation=config.activation_function,
        windows=[None] * config.n_layer,
        scales=[
            ((config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0)
            / (layer + 1 if config.scale_attn_by_inverse_layer_idx else 1)
            for layer in range(config.n_layer)
        ],
        **dict(parallel=False, rotary_dims=0, rotary_base=0.0),
    )


def _read_gpt_neo(state: Mapping[str, Tensor], config) -> Network:
    """GPT-Neo: separate q, k, v without bias, matrices `[out, in]`, scores not scaled, some layers local."""
    layers = []
    for index in range(config.num_layers):
        at, heads = f"transformer.h.{index}", config.num_heads
        zeros = torch.zeros(heads, config.hidden_size // heads, dtype=state["transformer.wte.weight"].dtype)
        w_q, w_k, w_v = (_heads_out(state[f"{at}.attn.attention.{part}_proj.weight"].T, heads) for part in "qkv")
        layers.append(
            Layer(
                ln1=_norm(state, f"{at}.ln_1"),
                ln2=_norm(state, f"{at}.ln_2"),
                **dict(w_q=w_q, w_k=w_k, w_v=w_v, b_q=zeros, b_k=zeros, b_v=zeros),
                w_o=_heads_in(state[f"{at}.attn.attention.out_proj.weight"].T, heads),
                b_o=state[f"{at}.attn.attention.out_proj.bias"],
                w_in=state[f"{at}.mlp.c_fc.weight"].T,
                b_in=state[f"{at}.mlp.c_fc.bias"],
                w_out=state[f"{at}.mlp.c_proj.weight"].T,
                b_out=state[f"{at}.mlp.c_proj.bias"],
            )
        )
    kinds = [kind for pattern, times in config.attention_types for _ in range(times) for kind in pattern]
    return Network(
        embed=state["transformer.wte.weight"],
        pos_embed=state["transformer.wpe.weight"],
        layers=layers,
        ln_final=_norm(state, "transformer.ln_f"),
        unembed=state["transformer.wte.weight"] if config.tie_word_embeddings else state["lm_head.weight"],
        eps=config.layer_norm_epsilon,
        activation=config.activation_function,
        windows=[config.window_size if kind == "local" else None for kind in kinds],
        scales=[1.0] * config.num_layers,
        **dict(parallel=False, rotary_dims=0, rotary_base=0.0),
    )


def _read_gpt_neox(state: Mapping[str, Tensor], config) -> Network:
    """GPT-NeoX: one matrix holds, head by head, that head's q, k and v; rotary, untied, parallel or not."""
    layers = []
    for index in range(config.num_hidden_layers):
        at, heads = f"gpt_neox.layers.{index}", config.num_attention_heads
        joint = state[f"{at}.attention.query_key_value.weight"].T
        joint_bias = state[f"{at}.attention.query_key_value.bias"]
        width = config.hidden_size // heads
        cut = {part: [] for part in ("w_q", "w_k", "w_v", "b_q", "b_k", "b_v")}
        for head in range(heads):
            for place, part in enumerate("qkv"):
                start = (3 * head + place) * width
                cut[f"w_{part}"].append(joint[:, start : start + width])
                cut[f"b_{part}"].append(joint_bias[start : start + width])
        layers.append(
            Layer(
                ln1=_norm(state, f"{at}.input_layernorm"),
                ln2=_norm(state, f"{at}.post_attention_layernorm"),
                **{part: torch.stack(pieces) for part, pieces in cut.items()},
                w_o=_heads_in(state[f"{at}.attention.dense.weight"].T, heads),
                b_o=state[f"{at}.attention.dense.bias"],
                w_in=state[f"{at}.mlp.dense_h_to_4h.weight"].T,
                b_in=state[f"{at}.mlp.dense_h_to_4h.bias"],
                w_out=state[f"{at}.mlp.dense_4h_to_h.weight"].T,
                b_out=state[f"{at}.mlp.dense_4h_to_h.bias"],
            )
        )
    unembed = "lm_head.weight" if "lm_head.weight" in state else "embed_out.weight"
    rope = config.rope_parameters
    return Network(
        embed=state["gpt_neox.embed_in.weight"],
        pos_embed=None,
        layers=layers,
        ln_final=_norm(state, "gpt_neox.final_layer_norm"),
        unembed=state["gpt_neox.embed_in.weight"] if config.tie_word_embeddings else state[unembed],
        eps=config.layer_norm_eps,
        activation=config.hidden_act,
        windows=[None] * config.num_hidden_layers,
        scales=[(config.hidden_size // config.num_attention_heads) ** -0.5] * config.num_hidden_layers,
        parallel=config.use_parallel_residual,
        rotary_dims=int(config.hidden_size // config.num_attention_heads * rope["partial_rotary_factor"]),
        rotary_base=float(rope["rope_theta"]),
    )


# ----------------------------------------------------------------------------------------------------
# The forward pass
# ----------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """Logits `[batch, pos, d_vocab]`, and every activation by name, before and after its edit."""

    logits: Tensor
    before: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)


def forward(
    net: Network,
    tokens: Tensor,
    edit: Edit | None = None,
    *,
    windows: list[int | None] | None = None,
    positions: Tensor | None = None,
    unrotated: Collection[int] = (),
    dropped: Collection[int] = (),
) -> Run:
    """Run `tokens` `[batch, pos]`; `edit` maps a hook name to what replaces the tensor there.

    Shapes are TransformerLens's: residual stream, attention and MLP outputs `[batch, pos, d_model]`; q, k, v,
    z and rotated q, k `[batch, pos, head, d_head]`; scores and pattern `[batch, head, query, key]`;
    `hook_result` and the split inputs `[batch, pos, head, d_model]`. `windows` (one per layer, `None` for
    global) and `positions` `[pos]`, whole numbers unless rotary, replace the model's own. Pairs of dimensions in
    `unrotated` are not turned, and dimensions of a head in `dropped` are 0 in the rotated q and k (rotary only).

    Raises:
        KeyError: for a name that is no site of this network; a typo must not pass as an edit without effect.
    """
    edit = dict(edit or {})
    unknown = sorted(set(edit) - set(net.sites))
    if unknown:
        raise KeyError(f"no such site in this network: {unknown}")
    run = Run(logits=torch.empty(0))

    def site(name: str, value: Tensor) -> Tensor:
        run.before[name] = value
        value = value.clone()  # a tensor of its own, so that the gradient here is that of this site alone
        run.after[name] = edit[name](value) if name in edit else value
        return run.after[name]

    batch, length = tokens.shape
    places = torch.arange(length) if positions is None else positions
    resid = site("hook_embed", net.embed[tokens])
    if net.pos_embed is not None:
        resid = resid + site("hook_pos_embed", torch.stack([net.pos_embed[places]] * batch))
    for index, layer in enumerate(net.layers):
        at = f"blocks.{index}"
        window = net.windows[index] if windows is None else windows[index]
        resid = site(f"{at}.hook_resid_pre", resid)
        turn = _Turn(places, net.rotary_dims, net.rotary_base, unrotated, dropped)
        attn_out = _attention(net, layer, resid, at, site, turn, window, net.scales[index])
        if net.parallel:
            mlp_in = site(f"{at}.hook_mlp_in", resid)
            mlp_out = _mlp(net, layer, mlp_in, at, site)
            resid = resid + attn_out + mlp_out
        else:
            resid = site(f"{at}.hook_resid_mid", resid + attn_out)
            mlp_in = site(f"{at}.hook_mlp_in", resid)
            resid = resid + _mlp(net, layer, mlp_in, at, site)
        resid = site(f"{at}.hook_resid_post", resid)
    run.logits = layer_norm(resid, net.ln_final, net.eps) @ net.unembed.T
    return run


@dataclass(frozen=True)
class _Turn:
    """How q and k are turned in one run."""

    places: Tensor
    dims: int
    base: float
    unrotated: Collection[int]
    dropped: Collection[int]

    def __call__(self, x: Tensor) -> Tensor:
        columns = rotate(x, self.places, self.dims, self.base, self.unrotated).unbind(dim=-1)
        kept = [torch.zeros_like(y) if m in self.dropped else y for m, y in enumerate(columns)]
        return torch.stack(kept, dim=-1)


def _attention(net: Network, layer: Layer, resid: Tensor, at: str, site, turn, window, scale) -> Tensor:
    """Attention of one block, the residual stream in and `hook_attn_out` out."""
    heads = layer.w_q.shape[0]
    attn_in = site(f"{at}.hook_attn_in", torch.stack([resid] * heads, dim=2))
    projected = {}
    for part, weight, bias in zip("qkv", (layer.w_q, layer.w_k, layer.w_v), (layer.b_q, layer.b_k, layer.b_v)):
        normed = layer_norm(site(f"{at}.hook_{part}_input", attn_in), layer.ln1, net.eps)
        value = torch.einsum("bphm,hmd->bphd", normed, weight) + bias
        projected[part] = site(f"{at}.attn.hook_{part}", value)
    q, k, v = projected["q"], projected["k"], projected["v"]
    if net.rotary_dims:
        q = site(f"{at}.attn.hook_rot_q", turn(q))
        k = site(f"{at}.attn.hook_rot_k", turn(k))

    scores = torch.einsum("bihd,bjhd->bhij", q, k) * scale
    scores = scores.masked_fill(~visible(scores.shape[-1], window), float("-inf"))
    scores = site(f"{at}.attn.hook_attn_scores", scores)
    weights = torch.exp(scores - scores.max(dim=-1, keepdim=True).values)
    pattern = site(f"{at}.attn.hook_pattern", weights / weights.sum(dim=-1, keepdim=True))
    z = site(f"{at}.attn.hook_z", torch.einsum("bhij,bjhd->bihd", pattern, v))
    result = site(f"{at}.attn.hook_result", torch.einsum("bphd,hdm->bphm", z, layer.w_o))
    return site(f"{at}.hook_attn_out", result.sum(dim=2) + layer.b_o)


def _mlp(net: Network, layer: Layer, resid: Tensor, at: str, site) -> Tensor:
    hidden = ACTIVATIONS[net.activation](layer_norm(resid, layer.ln2, net.eps) @ layer.w_in + layer.b_in)
    return site(f"{at}.hook_mlp_out", hidden @ layer.w_out + layer.b_out)


def visible(length: int, window: int | None) -> Tensor:
    """`[query, key]`: True where `0 <= i - j <= window - 1`; without a window, where `0 <= i - j`."""
    mask = torch.zeros(length, length, dtype=torch.bool)
    furthest = length if window is None else window - 1
    for i in range(length):
        for j in range(length):
            mask[i, j] = 0 <= i - j <= furthest
    return mask


def layer_norm(x: Tensor, norm: Norm, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred**2).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * norm.weight + norm.bias


def rotate(x: Tensor, places: Tensor, dims: int, base: float, unrotated: Collection[int] = ()) -> Tensor:
    """Turn the dimensions (m, m + dims/2) of `x[batch, pos, head, d_head]` by `place * base^(-2m/dims)`."""
    columns = list(x.unbind(dim=-1))
    turned = list(columns)
    for m in set(range(dims // 2)) - set(unrotated):
        angle = places.to(torch.float64) * base ** (-2 * m / dims)
        cos, sin = angle.cos().to(x.dtype)[:, None], angle.sin().to(x.dtype)[:, None]
        first, second = columns[m], columns[m + dims // 2]
        turned[m] = first * cos - second * sin
        turned[m + dims // 2] = second * cos + first * sin
    return torch.stack(turned, dim=-1)


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def gelu_new(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_new}


# ----------------------------------------------------------------------------------------------------
# The scores of one head, from its whole pattern A[query, key]
# ----------------------------------------------------------------------------------------------------


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def previous_token(pattern: Tensor) -> float:
    """Mean over i >= 1 of A[i, i-1]."""
    a = pattern.tolist()
    return _mean(a[i][i - 1] for i in range(1, len(a)))


def current_token(pattern: Tensor) -> float:
    """Mean over i of A[i, i]."""
    a = pattern.tolist()
    return _mean(a[i][i] for i in range(len(a)))


def duplicate_token(pattern: Tensor, n: int) -> float:
    """On [BOS, r_1..r_n, r_1..r_n]: mean over the second half of A[i, i-n]."""
    a = pattern.tolist()
    assert len(a) == 2 * n + 1
    return _mean(a[i][i - n] for i in range(n + 1, 2 * n + 1))


def induction(pattern: Tensor, n: int) -> float:
    """On [BOS, r_1..r_n, r_1..r_n]: mean over the second half of A[i, i-n+1]."""
    a = pattern.tolist()
    assert len(a) == 2 * n + 1
    return _mean(a[i][i - n + 1] for i in range(n + 1, 2 * n + 1))


def sink(pattern: Tensor, k: int = 0) -> float:
    """Sum over i >= k of A[i, k], divided by T - k."""
    a = pattern.tolist()
    return sum(a[i][k] for i in range(k, len(a))) / (len(a) - k)


def mean_distance(pattern: Tensor) -> float:
    """Sum of A[i, j] (i - j), divided by the number of queries."""
    a = pattern.tolist()
    return sum(a[i][j] * (i - j) for i in range(len(a)) for j in range(i + 1)) / len(a)


def mean_distance_without_first_key(pattern: Tensor) -> float:
    """The same sum over keys j >= 1 only, still divided by the number of queries."""
    a = pattern.tolist()
    return sum(a[i][j] * (i - j) for i in range(len(a)) for j in range(1, i + 1)) / len(a)


def mean_distance_of_mass_without_first_key(pattern: Tensor) -> float:
    """The same sum over keys j >= 1, divided by the attention mass on those keys: the mean of the rest."""
    a = pattern.tolist()
    cells = [(i, j) for i in range(len(a)) for j in range(1, i + 1)]
    return sum(a[i][j] * (i - j) for i, j in cells) / sum(a[i][j] for i, j in cells)


def _row_entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def entropy(pattern: Tensor) -> float:
    """Mean over i >= 1 of - sum_j A log A, in nats."""
    a = pattern.tolist()
    return _mean(_row_entropy(a[i]) for i in range(1, len(a)))


def entropy_normalised(pattern: Tensor, window: int | None = None) -> float:
    """Mean over i >= 1 of the row's entropy over log(min(i + 1, window)): 1 where visible keys are equal."""
    a = pattern.tolist()
    keys = [i + 1 if window is None else min(i + 1, window) for i in range(len(a))]
    return _mean(_row_entropy(a[i]) / math.log(keys[i]) for i in range(1, len(a)))


def mass_by_distance(pattern: Tensor) -> list[float]:
    """For each distance d from 0 to T-1: mean of A[i, i-d] over the T - d queries that have such a key."""
    a = pattern.tolist()
    return [_mean(a[i][i - d] for i in range(d, len(a))) for d in range(len(a))]
