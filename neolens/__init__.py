"""neolens: what do local attention layers do that global ones do not, and rotary positions that absolute ones do not?

A mechanistic-interpretability plugin on TransformerLens 4 for GPT-2, GPT-Neo and Pythia. Names are imported when
they are first used, so that `import neolens` does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neolens.ablation import by_kind, each_head, each_layer
    from neolens.ablation.ablate import ablate
    from neolens.metrics import kl_divergence, log_probability, logit_difference, loss, probability, rank
    from neolens.models.anatomy import Anatomy, AttentionSpan, Position
    from neolens.models.loading import anatomy, load
    from neolens.network import fingerprint
    from neolens.patching.patch import patch, recovered
    from neolens.position.shift import shift
    from neolens.prompts import PromptPairs
    from neolens.scores.attention import attention
    from neolens.scores.roles import roles
    from neolens.whatif import what_if

__version__ = "0.1.0"

_HOMES = {
    "ablation": ("ablate", "by_kind", "each_head", "each_layer"),
    "models": ("Anatomy", "AttentionSpan", "Position", "anatomy", "load"),
    "metrics": ("kl_divergence", "log_probability", "logit_difference", "loss", "probability", "rank"),
    "network": ("fingerprint",),
    "patching": ("patch", "recovered"),
    "position": ("shift",),
    "prompts": ("PromptPairs",),
    "scores": ("attention", "roles"),
    "whatif": ("what_if",),
}

__all__ = [
    "Anatomy",
    "AttentionSpan",
    "Position",
    "PromptPairs",
    "ablate",
    "anatomy",
    "attention",
    "by_kind",
    "each_head",
    "each_layer",
    "fingerprint",
    "kl_divergence",
    "load",
    "log_probability",
    "logit_difference",
    "loss",
    "patch",
    "probability",
    "rank",
    "recovered",
    "roles",
    "shift",
    "what_if",
]
_MODULES = (
    "ablation",
    "figures",
    "lab",
    "metrics",
    "models",
    "network",
    "patching",
    "position",
    "prompts",
    "replay",
    "report",
    "results",
    "scores",
    "sites",
    "stats",
    "studies",
    "views",
    "whatif",
)


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"neolens.{home}"), name)
    if name in _MODULES:
        return import_module(f"neolens.{name}")
    raise AttributeError(f"module 'neolens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
