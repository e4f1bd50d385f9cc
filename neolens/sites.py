"""Where in a model: the sites of the residual stream, of attention and of the MLP, and their TransformerLens names.

This is the one file (besides `models`, which builds the hooks) that spells hook names. Shapes are
TransformerLens's: [prompt, pos, d_model] for the residual stream and what is added to it, [prompt, pos, head,
d_head] for q, k, v, z and their rotations, [prompt, head, query_pos, key_pos] for scores and pattern, [prompt, pos,
head, d_model] for `result`.
"""

from __future__ import annotations

from neolens.checks import check_choice, check_type, check_whole
from neolens.models.anatomy import Anatomy

_EMBEDDING = {"embed": "hook_embed", "pos_embed": "hook_pos_embed"}
_BLOCK = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
_ATTENTION = ("q", "k", "v", "rot_q", "rot_k", "attn_scores", "pattern", "z", "result")

SITES = (*_EMBEDDING, *_BLOCK, *_ATTENTION)


def hook_name(site: str, layer: int | None = None) -> str:
    """TransformerLens's name of a site, such as `blocks.3.attn.hook_pattern`.

    Raises:
        TypeError: a site that is no string, or a layer that is no whole number.
        ValueError: no such site, a negative layer, or a layer missing or given where there is none.
    """
    check_choice(site, "site", SITES)
    if (layer is None) != (site in _EMBEDDING):
        raise ValueError(f"site {site} {'needs a layer' if layer is None else 'belongs to no layer'}, got {layer}")
    if layer is not None:
        layer = check_whole(layer, "layer", 0)
    if site in _EMBEDDING:
        return _EMBEDDING[site]
    return f"blocks.{layer}.hook_{site}" if site in _BLOCK else f"blocks.{layer}.attn.hook_{site}"


def sites_of(anatomy: Anatomy) -> tuple[str, ...]:
    """The sites that a model of this anatomy has, in the order of the forward pass within each group.

    Raises:
        TypeError: no anatomy.
    """
    check_type(anatomy, "anatomy", Anatomy, "that of a model, as of neolens.anatomy(model)")
    absent = set()
    if anatomy.parallel:
        absent.add("resid_mid")
    if anatomy.position.kind != "absolute":
        absent.add("pos_embed")
    if anatomy.position.kind != "rotary":
        absent |= {"rot_q", "rot_k"}
    return tuple(site for site in SITES if site not in absent)
