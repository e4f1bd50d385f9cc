"""A hooked model's own functions of text and tokens: those of TransformerLens, with their arguments checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neolens.checks import (
    check_bool,
    check_choice,
    check_index,
    check_list,
    check_text,
    check_whole,
    holds_tokens,
    shown,
)
from neolens.models.tokenizers import prepared, text_tokens

if TYPE_CHECKING:
    from neolens.models.anatomy import Anatomy


class TextMethods:
    """Methods of a `Bridge`, placed before those of TransformerLens."""

    if TYPE_CHECKING:

        @property
        def anatomy(self) -> Anatomy: ...

    cfg: Any
    _tokenizer: Any
    _driver: Any

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, or None. What is assigned gets no token that it does not have."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        if tokenizer is not None and (isinstance(tokenizer, type) or not hasattr(tokenizer, "get_vocab")):
            raise TypeError(f"tokenizer {shown(tokenizer)}: expected a Hugging Face tokenizer, or None")
        self._tokenizer = None if tokenizer is None else prepared(tokenizer)
        self._driver.tokenizer = self._tokenizer
        self.cfg.tokenizer_prepends_bos = self.cfg.tokenizer_appends_eos = False  # see to_tokens

    def to_tokens(
        self,
        input: str | list[str],
        prepend_bos: bool | None = None,
        padding_side: str | None = None,
        move_to_device: bool = True,
        truncate: bool = True,
    ) -> Tensor:
        """Texts as tokens [prompt, pos]: BOS where the tokenizer has one, in all families, and the text's tokens.

        Args:
            prepend_bos: None: BOS, or the end-of-text token where there is no BOS; nothing where there is neither.

        Raises:
            TypeError: no texts.
            ValueError: no tokenizer, a text without tokens, `prepend_bos=True` without a BOS, or nothing to pad with.
        """
        texts = [input] if isinstance(input, str) else check_list(input, "input", "texts", example="['a', 'b']")
        for text in texts:
            check_text(text, "input", empty=True)
        if not texts:
            raise ValueError(f"input {shown(input)}: expected at least one text")
        if padding_side is not None:
            check_choice(padding_side, "padding_side", ("left", "right"))
        if prepend_bos is not None:
            prepend_bos = check_bool(prepend_bos, "prepend_bos")
        tokenizer = self._check_tokenizer()
        rows = text_tokens(
            tokenizer,
            texts,
            prepend_bos=(None if self.cfg.default_prepend_bos else False) if prepend_bos is None else prepend_bos,
            padding_side=padding_side,
            context=self.cfg.n_ctx if check_bool(truncate, "truncate") else None,
            d_vocab=self.anatomy.d_vocab,
        )
        device = self.cfg.device if check_bool(move_to_device, "move_to_device") else "cpu"
        return torch.tensor(rows, dtype=torch.long, device=device)

    def to_string(self, tokens: Any) -> Any:
        """The text of tokens [pos], or the texts of tokens [prompt, pos]."""
        return super().to_string(self._check_ids(tokens))  # type: ignore[misc]

    def to_str_tokens(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """What each token of a text, or each of these tokens, stands for; of several texts, list by list."""
        if isinstance(input, list | tuple) and input and all(isinstance(text, str) for text in input):
            return [self.to_str_tokens(text, *args, **kwargs) for text in input]
        value = input if isinstance(input, str) else self._check_ids(input)
        if isinstance(value, Tensor) and value.ndim == 2 and len(value) > 1:
            raise ValueError(f"input of shape {tuple(value.shape)}: expected one prompt [pos]; give one at a time")
        self._check_tokenizer()
        return super().to_str_tokens(value, *args, **kwargs)  # type: ignore[misc]

    def to_single_token(self, string: str) -> int:
        """The one token of a text; a text of several is refused."""
        tokens = self.to_tokens(check_text(string, "string", empty=True), prepend_bos=False)[0]
        if len(tokens) != 1:
            raise ValueError(f"string {shown(string)}: expected a single token, it has {len(tokens)}")
        return int(tokens[0])

    def to_single_str_token(self, int_token: int) -> str:
        """What a token stands for."""
        token = check_index(int_token, "token", self.anatomy.d_vocab, self.anatomy.name)
        return str(self.to_str_tokens(torch.tensor([token]))[0])

    def get_token_position(self, single_token: Any, input: Any, mode: str = "first", *args: Any, **kwargs: Any) -> int:
        """The first or last position of a token in a prompt; one that does not occur there is refused."""
        check_choice(mode, "mode", ("first", "last"))
        one = isinstance(single_token, str)
        d_vocab, name = self.anatomy.d_vocab, self.anatomy.name
        token = self.to_single_token(single_token) if one else check_index(single_token, "token", d_vocab, name)
        tokens = self.to_tokens(input, *args, **kwargs) if isinstance(input, str) else self._check_ids(input)
        if tokens.ndim > 1 and len(tokens) > 1:
            raise ValueError(f"input of shape {tuple(tokens.shape)}: expected one prompt [pos]; give one at a time")
        places = (tokens.reshape(-1) == token).nonzero().flatten().tolist()
        if not places:
            raise ValueError(f"token {shown(single_token)} does not occur in input: expected one of its tokens")
        return int(places[0 if mode == "first" else -1])

    def tokens_to_residual_directions(self, tokens: Any) -> Tensor:
        """The unembedding vector of each token."""
        value = self.to_single_token(tokens) if isinstance(tokens, str) else self._check_ids(tokens)
        return super().tokens_to_residual_directions(value)  # type: ignore[misc]

    def accumulated_bias(self, layer: int, *args: Any, **kwargs: Any) -> Tensor:
        """The sum of the biases that are added to the residual stream before a layer."""
        most = self.anatomy.layers
        return super().accumulated_bias(check_whole(layer, "layer", 0, most), *args, **kwargs)  # type: ignore[misc]

    def block_hooks(self, layer_idx: int) -> list[str]:
        """The hook points of a layer, without its name."""
        layer = check_index(layer_idx, "layer", self.anatomy.layers, self.anatomy.name)
        return super().block_hooks(layer)  # type: ignore[misc]

    def block_submodules(self, layer_idx: int) -> list[str]:
        """The parts of a layer."""
        layer = check_index(layer_idx, "layer", self.anatomy.layers, self.anatomy.name)
        return super().block_submodules(layer)  # type: ignore[misc]

    def blocks_with(self, submodule: str) -> list[Any]:
        """The layers that have a part of this name, with their numbers."""
        return super().blocks_with(check_text(submodule, "submodule", example="attn"))  # type: ignore[misc]

    def all_composition_scores(self, mode: str) -> Any:
        """How much of what each head writes each later head reads, by its queries, keys or values."""
        return super().all_composition_scores(check_choice(mode, "mode", ("Q", "K", "V")))  # type: ignore[misc]

    def _check_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise ValueError(
                "the model has no tokenizer, so it takes no text: pass tokens, or load(..., tokenizer=...)"
            )
        return self.tokenizer

    def _check_ids(self, tokens: Any) -> Tensor:
        """Tokens of the model's vocabulary as a tensor, from one, a list or an array of them."""
        expected = "expected tokens: integers, or a tensor [pos] or [prompt, pos] of them"
        try:
            plain = not isinstance(tokens, str | bytes | bytearray | memoryview | bool)
            value = tokens if isinstance(tokens, Tensor) or not plain else torch.as_tensor(tokens)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            value = None
        if not isinstance(value, Tensor) or not holds_tokens(value):
            raise TypeError(f"tokens {shown(tokens)}: {expected}")
        if value.ndim > 2 or not value.numel():
            raise ValueError(f"tokens of shape {tuple(value.shape)}: {expected}, at least one")
        low, high = int(value.min()), int(value.max())
        check_index(low if low < 0 else high, "token", self.anatomy.d_vocab, self.anatomy.name)
        return value
