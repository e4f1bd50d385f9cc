"""Shared tiny models, built once a session and saved as ordinary Hugging Face folders."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import oracles
import tiny


def pytest_configure(config: pytest.Config) -> None:
    # on some processors MKL's last bits depend on where a tensor lies in memory, unless it is told to be reproducible
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need minutes, unless `-m` names them, and tests of wrong types where beartype refuses those."""
    skipped = {} if "slow" in config.option.markexpr else {"slow": "needs minutes: pytest -m slow"}
    if config.option.jaxtyping_packages:
        skipped["untyped"] = "passes wrong types to checked annotations"
    for item in items:
        for marker in skipped.keys() & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.skip(reason=skipped[marker]))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_models() -> dict:
    """Every tiny model by name: the Hugging Face model, the truth to compare with. Not to be modified."""
    return {name: tiny.model(name) for name in tiny.NAMES}


@pytest.fixture(scope="session")
def tiny_folders(tiny_models: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same models, each saved by `save_pretrained`, without a tokenizer."""
    root = tmp_path_factory.mktemp("tiny")
    for name, model in tiny_models.items():
        model.save_pretrained(root / name)
    return {name: root / name for name in tiny_models}


@pytest.fixture(scope="session")
def bridges(tiny_folders: dict[str, Path]) -> dict:
    """Every tiny model loaded by neolens, shared by all tests: each puts back what it switches or hooks."""
    import neolens

    return {name: neolens.load(folder) for name, folder in tiny_folders.items()}


@pytest.fixture(scope="session")
def networks(tiny_models: dict) -> dict:
    """The oracle's weights of every tiny model, in float64."""
    return {name: oracles.network(model) for name, model in tiny_models.items()}


@pytest.fixture(scope="session")
def leaf_networks(tiny_models: dict) -> dict:
    """The same with every weight a leaf of autograd."""
    return {name: oracles.network(model, grad=True) for name, model in tiny_models.items()}


@pytest.fixture(scope="session")
def nudged_truth(leaf_networks: dict) -> Callable:
    """What the oracle says of `tiny.nudged` at a site: logits, and their gradient at the embedding matrix."""

    @functools.cache
    @torch.enable_grad()
    def truth(name: str, hook_name: str | None, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        net, tokens = leaf_networks[name], tiny.tokens(seed)
        logits = oracles.forward(net, tokens, {hook_name: tiny.nudged} if hook_name else {}).logits
        (gradient,) = torch.autograd.grad(tiny.weighted_sum(logits), net.embed)
        return logits.detach(), gradient

    return truth
