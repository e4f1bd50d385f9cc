"""Shared tiny models, built once a session and saved as ordinary Hugging Face folders."""

from pathlib import Path

import oracles
import pytest
import tiny
import torch


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


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
def _bridges(tiny_folders: dict[str, Path]) -> dict:
    import neolens

    return {name: neolens.load(folder) for name, folder in tiny_folders.items()}


@pytest.fixture
def bridges(_bridges: dict):
    """Every tiny model loaded by neolens, shared by all tests; switches and hooks are put back after each."""
    yield _bridges
    for bridge in _bridges.values():
        bridge.reset_hooks()
        bridge.eval()
        for switch in (
            "set_use_attn_result",
            "set_use_split_qkv_input",
            "set_use_attn_in",
            "set_use_hook_mlp_in",
        ):
            getattr(bridge, switch)(False)


@pytest.fixture(scope="session")
def networks(tiny_models: dict) -> dict:
    """The oracle's weights of every tiny model, in float64."""
    return {name: oracles.network(model) for name, model in tiny_models.items()}
