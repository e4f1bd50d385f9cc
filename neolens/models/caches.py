"""Cached activations by name; asking for one that was not cached names those that are like it."""

from __future__ import annotations

from typing import Any

from transformer_lens import ActivationCache

from neolens.checks import did_you_mean, shown
from neolens.models.hook_names import HookNameError


class NamedCache(ActivationCache):
    """TransformerLens's cache, which refuses an unknown name with the nearest one."""

    def __getitem__(self, key: Any) -> Any:
        try:
            return super().__getitem__(key)
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError):
            near = did_you_mean(key if isinstance(key, str) else "", self.cache_dict)
            raise HookNameError(
                f"no activation {shown(key)} in the cache of {self.model.anatomy.name}: {near}expected one of "
                f"cache.keys(), or a short name with its layer, such as 'q', 0"
            ) from None


def named(cache: Any) -> Any:
    """The cache itself, which from now on names what is like a name that it does not have; a dict as it is."""
    if type(cache) is ActivationCache:
        cache.__class__ = NamedCache
    return cache
