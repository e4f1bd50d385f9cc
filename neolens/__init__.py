"""neolens: what do local attention layers do that global ones do not, and rotary positions that absolute ones do not?

A mechanistic-interpretability plugin on TransformerLens 4 for GPT-2, GPT-Neo and Pythia. Names are imported when
they are first used, so that `import neolens` does no work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neolens.models import Anatomy, AttentionSpan, Position, anatomy, load
    from neolens.network import fingerprint
    from neolens.scores import attention

__version__ = "0.1.0"

__all__ = ["Anatomy", "AttentionSpan", "Position", "anatomy", "attention", "fingerprint", "load"]

_HOMES = {"attention": "scores", "fingerprint": "network"}
_MODULES = (
    "figures",
    "findings",
    "lab",
    "models",
    "network",
    "prompts",
    "report",
    "results",
    "scores",
    "sites",
    "views",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"neolens.{_HOMES.get(name, 'models')}"), name)
    if name in _MODULES:
        return import_module(f"neolens.{name}")
    raise AttributeError(f"module 'neolens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
