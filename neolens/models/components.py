"""TransformerLens components whose hooks act, for the three families.

What is wrong upstream (4.3.0), and mended here without touching anything global: GPT-Neo's attention fires
`hook_attn_scores` and `hook_pattern` after Hugging Face has used their values; `hook_resid_mid` is an alias of the
second layer norm's input, so a returned edit misses the skip connection, and an edit of `hook_mlp_in` in place
reaches it; Pythia's `hook_rot_q` and `hook_rot_k` never fire; with a switch on, some points stop firing and some edits
are lost; `hook_pos_embed` is an expanded view that cannot be edited in place; dropout inside attention is lost in
training mode; the joint projection of q, k and v stays as parameters that nothing reads. The arithmetic is that of
Hugging Face's eager attention, operation by operation, so that logits stay the same to the bit. What `neolens.what_if`
changes, each component reads from the model's state: `span`, `treatment`.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.generalized_components import (
    BlockBridge,
    JointQKVAttentionBridge,
    JointQKVPositionEmbeddingsAttentionBridge,
    PosEmbedBridge,
    PositionEmbeddingsAttentionBridge,
    RotaryEmbeddingBridge,
)

from neolens.models.anatomy import AttentionSpan
from neolens.models.apply_treatment import embedded, keeps_rest, placed, turned
from neolens.models.joint_product import JointProduct, stacked, store_side_by_side
from neolens.models.spans import visible
from neolens.models.state import ModelState
from neolens.models.treatments import Treatment


class _DropsCachedPattern:
    """Upstream keeps each layer's last pattern, with its graph, until the next pass; no hook needs it."""

    def _process_output(self, output: Any) -> Any:
        output = super()._process_output(output)  # type: ignore[misc]
        self._pattern = None
        return output


class _ReadsState:
    """A component that computes what is in force on the model."""

    state: ModelState

    @property
    def treatment(self) -> Treatment | None:
        """What is done to positions."""
        return self.state.anatomy.position.treatment


class _WindowMask(_ReadsState):
    """Scores of keys that a query does not see have one value, the same in the three families: the dtype's lowest, or
    -inf in compatibility mode.

    Upstream adds Hugging Face's mask, which hides later keys and padding; a window hides what is further back. Where
    every key of a query is hidden (padding), the pattern is uniform, in compatibility mode 0.
    """

    layer: int

    @property
    def span(self) -> AttentionSpan:
        """Which keys this layer's queries see."""
        return self.state.anatomy.attention[self.layer]

    def _apply_reconstruct_attention_mask(
        self, attn_scores: Tensor, attention_mask: Tensor | None, seq_len: int, q_seq_len: int | None = None
    ) -> Tensor:
        scores = super()._apply_reconstruct_attention_mask(  # type: ignore[misc]
            attn_scores=attn_scores, attention_mask=attention_mask, seq_len=seq_len, q_seq_len=q_seq_len
        )
        hidden = ~_attention_mask(scores, self.span, attention_mask)
        if scores.dtype.itemsize == 2:  # a product that overflows makes Hugging Face's row NaN, masked or not
            hidden = hidden & ~torch.isposinf(scores)
        lowest = -torch.inf if self.compatibility_mode else torch.finfo(scores.dtype).min  # type: ignore[attr-defined]
        return scores.masked_fill(hidden, lowest)

    def _compute_per_head_result(self, z_4d: Tensor, n_heads: int, d_head: int) -> Tensor:
        """The sum of what the heads write; upstream does not fire `o.hook_out` here."""
        summed = super()._compute_per_head_result(z_4d, n_heads, d_head)  # type: ignore[misc]
        return self.o.hook_out(summed)  # type: ignore[attr-defined]

    def _attend(self, scores: Tensor, v: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """What attention adds to the residual stream, and the pattern, from scores [batch, head, query, key] and values
        [batch, head, key, d_head]: step by step, with hooks where the values are."""
        scores = self._apply_reconstruct_attention_mask(scores, attention_mask, v.shape[2], scores.shape[2])
        pattern = self._masked_softmax(self.hook_attn_scores(scores)).to(v.dtype)  # type: ignore[attr-defined]
        pattern = self.hook_pattern(self.original_component.attn_dropout(pattern))  # type: ignore[attr-defined]
        z = torch.matmul(pattern, v).transpose(1, 2).contiguous()
        return self.original_component.resid_dropout(self._project_out(z)), pattern  # type: ignore[attr-defined]

    def _project_out(self, z: Tensor) -> Tensor:
        heads, d_head = self.config.n_heads, self.config.d_head  # type: ignore[attr-defined]
        flat = z.reshape(*z.shape[:2], heads * d_head)
        if not self.config.use_attn_result:  # type: ignore[attr-defined]
            return self.o(flat)  # type: ignore[attr-defined]
        flat = self.o.hook_in(flat)  # type: ignore[attr-defined]
        return self._compute_per_head_result(flat.view(*z.shape[:2], heads, d_head), heads, d_head)


def _attention_mask(scores: Tensor, span: AttentionSpan, mask: Tensor | None) -> Tensor:
    """Whether the query sees the key: within the span, and not hidden by the mask of the caller (padding).

    The queries are the last of the keys; the earlier keys come from a cache.
    """
    queries, keys = scores.shape[-2:]
    seen = visible(range(keys - queries, keys), range(keys), span, device=scores.device)
    if mask is None:
        return seen
    mask = mask[..., -queries:, :keys] if mask.ndim >= 3 else mask[..., :keys]
    return seen & (mask > torch.finfo(mask.dtype).min if mask.is_floating_point() else mask.bool())


class JointAttention(JointProduct, _WindowMask, _DropsCachedPattern, JointQKVAttentionBridge):
    """GPT-2 attention: scores multiplied by a scale per layer, in float32 where the config says so, and the dropout on
    the output that Hugging Face applies in training."""

    def _product(self, x: Tensor, weights: tuple[Tensor, ...], bias: Tensor | None) -> Tensor:
        joint = stacked(tuple(weight.T for weight in weights), 1)  # as Hugging Face's Conv1D
        assert bias is not None
        return torch.addmm(bias, x.reshape(-1, x.shape[-1]), joint).unflatten(0, x.shape[:-1])

    def _reconstruct_attention(self, q: Tensor, k: Tensor, v: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
        q, k, v, *_ = self._reshape_qkv_to_heads(q, k, v, self.config.n_heads)
        k, v = self._update_kv_cache(k, v, **kwargs)
        return self._attend(self._scores(q, k.transpose(-1, -2)), v, kwargs.get("attention_mask"))

    def _scores(self, q: Tensor, k: Tensor) -> Tensor:
        scale = self.original_component.scaling
        if not self.original_component.reorder_and_upcast_attn:
            return torch.matmul(q, k) * scale
        exact = torch.promote_types(q.dtype, torch.float32)  # in float64 Hugging Face raises an error
        with torch.autocast(q.device.type, enabled=False):
            q, k, heads = q.to(exact).flatten(0, 1), k.to(exact).flatten(0, 1), q.shape[:2]
            empty = q.new_empty(len(q), q.shape[1], k.shape[2])
            return torch.baddbmm(empty, q, k, beta=0, alpha=scale).unflatten(0, heads)


class RotaryAttention(JointProduct, _WindowMask, _DropsCachedPattern, JointQKVPositionEmbeddingsAttentionBridge):
    """Pythia attention: `hook_rot_q` and `hook_rot_k` fire on the rotated vectors that the scores are made of."""

    def set_original_component(self, component: nn.Module) -> None:
        super().set_original_component(component)
        store_side_by_side((self.q, self.k, self.v))

    def _apply_rotary_pos_emb(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        q, k = super()._apply_rotary_pos_emb(q, k, cos, sin)
        if not keeps_rest(self.treatment):
            rotary = torch.arange(q.shape[-1], device=q.device) < cos.shape[-1]
            q, k = q.masked_fill(~rotary, 0.0), k.masked_fill(~rotary, 0.0)
        return self.hook_rot_q(q), self.hook_rot_k(k)

    def _apply_attn_dropout(self, attn_weights: Tensor) -> Tensor:
        rate = self.original_component.attention_dropout
        return nn.functional.dropout(attn_weights, p=rate, training=self.training)


class WindowedAttention(_WindowMask, PositionEmbeddingsAttentionBridge):
    """GPT-Neo attention, global or local, step by step: scores in fp32 and unscaled, hooks where the values are."""

    rope_optional = True

    def __init__(self, name: str, config: Any, submodules: dict[str, Any]):
        super().__init__(name, config, submodules)
        # Nothing is rotated here, and a hook that exists must fire.
        for absent in ("hook_cos", "hook_sin", "hook_hidden_states"):
            delattr(self, absent)
            self._hook_registry.pop(absent, None)

    def set_original_component(self, component: nn.Module) -> None:
        super().set_original_component(component)
        self._layer_idx = component.layer_id  # Hugging Face's name for it differs here; the cache needs it

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        hidden_states = self.hook_in(hidden_states)
        q, k, v = (x.transpose(1, 2) for x in self._project(hidden_states))
        k, v = self._update_kv_cache(k, v, **kwargs)
        scores = torch.matmul(q.to(torch.float32), k.to(torch.float32).transpose(-1, -2))
        out, pattern = self._attend(scores, v, attention_mask)
        return self.hook_out(out), pattern

    def _project(self, x: Tensor) -> list[Tensor]:
        """q, k and v as [batch, pos, head, d_head]; from one residual stream a head where that is switched on."""
        heads, d_head = self.config.n_heads, self.config.d_head
        linears = (self.q, self.k, self.v)
        residual = x if self._captured_pre_ln_residual is None else self._captured_pre_ln_residual
        if self.config.use_split_qkv_input:
            hooks = (self.hook_q_input, self.hook_k_input, self.hook_v_input)
            inputs = [self._fork_and_norm_per_head(residual, hook, heads) for hook in hooks]
        elif self.config.use_attn_in:
            inputs = [self._fork_and_norm_per_head(residual, self.hook_attn_in, heads)] * 3
        else:
            return [linear(x).view(*x.shape[:-1], heads, d_head) for linear in linears]
        return [self._project_per_head_qkv(linear, y, heads, d_head) for linear, y in zip(linears, inputs)]


class SequentialBlock(BlockBridge):
    """A block that owns `hook_resid_mid`: what the hook returns feeds the MLP and the skip connection alike.

    `returns_pattern`: GPT-Neo's block hands back (residual, pattern), the others the residual alone.
    """

    def __init__(self, name: str, config: Any, submodules: dict[str, Any], *, returns_pattern: bool = False):
        super().__init__(name, config, submodules)
        self.hook_aliases: dict[str, Any] = {k: v for k, v in BlockBridge.hook_aliases.items() if k != "hook_resid_mid"}
        self.hook_resid_mid = HookPoint()
        self.returns_pattern = returns_pattern

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self._maybe_wire_capture_hooks()
        self._clear_attention_capture()
        args, kwargs = self._maybe_inject_start_residual(args, kwargs)
        self._check_stop_at_layer(*args, **kwargs)
        args, kwargs = self._hook_input_hidden_states(args, kwargs)
        called = inspect.signature(self.original_component.forward).bind(*args, **kwargs).arguments
        extra = called.pop("kwargs", {})
        try:
            output = self._block(**called, **extra)
        finally:
            self._clear_attention_capture()
        standalone = self._is_standalone_hidden_state_call(args, kwargs)
        return self._apply_output_hook(output, force_tuple_for_bare_tensor=standalone)

    def _block(self, hidden_states: Tensor, **kwargs: Any) -> Tensor | tuple[Tensor, Tensor]:
        drop_attention = getattr(self.original_component, "post_attention_dropout", nn.Identity())
        drop_mlp = getattr(self.original_component, "post_mlp_dropout", nn.Identity())
        attn_out, pattern = self.attn(self.ln1(hidden_states), **kwargs)
        mid = self.hook_resid_mid(drop_attention(attn_out) + hidden_states)
        post = mid + drop_mlp(self.mlp(self.ln2(mid)))
        return (post, pattern) if self.returns_pattern else post


class PositionEmbedding(_ReadsState, PosEmbedBridge):
    """Learned position embeddings, one tensor a prompt, so that a hook may edit it in place."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        batch, self._current_batch_size = getattr(self, "_current_batch_size", None), None
        indices = self.hook_in(args[0])
        if self.treatment is None:
            output = self.original_component(indices, *args[1:], **kwargs)
        else:
            output = embedded(self.treatment, self.original_component.weight, indices)
        if batch and batch > 1 and output.shape[0] == 1 and self.hook_out.has_hooks():
            output = output.repeat(batch, 1, 1)
        return self.hook_out(output)


class RotaryEmbedding(_ReadsState, RotaryEmbeddingBridge):
    """The tables by which q and k are turned: at the positions, and in the bands, that are in force."""

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        tables = self.original_component(self.hook_in(x), placed(self.treatment, position_ids))
        cos, sin = turned(self.treatment, *tables)
        return self.hook_cos(cos), self.hook_sin(sin)
