"""Torch's ambient state is not the model's: every instrument gives the same numbers under it, or refuses."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import xarray as xr

import neolens
import tiny
from as_built import plain_logits
from instrument_calls import HOOKED, OF_RUNS, OF_WEIGHTS, assert_same_numbers, cases

DTYPES = ("bfloat16", "float16", "float64")


@contextlib.contextmanager
def default_dtype(name: str) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device_meta() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic_algorithms() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


AMBIENT: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    **{f"default dtype {name}": (lambda name=name: default_dtype(name)) for name in DTYPES},
    "default device meta": default_device_meta,
    "within device meta": lambda: torch.device("meta"),
    "deterministic algorithms": deterministic_algorithms,
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "no gradients": torch.no_grad,
}
CALLS = cases(OF_RUNS + HOOKED + OF_WEIGHTS)


@pytest.fixture(scope="module")
def plain(bridges):
    """(family, instrument) -> its result without any ambient state."""
    return {(family, str(call)): call.measure(bridges[family]) for family, call in CALLS}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device() == torch.device("cpu")
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.are_deterministic_algorithms_enabled()


def outcome(call: Callable, argument: Any, ambient: str) -> Any:
    """What a call gives under an ambient state: its result, or the ValueError that it raises."""
    with AMBIENT[ambient]():
        try:
            return call(argument)
        except ValueError as error:
            return error


def assert_says_what_to_call(error: ValueError, ambient: str) -> None:
    """A refusal names what is set, and the function of torch that resets it."""
    what = ambient.split()[-1]  # a dtype, or a device
    assert ambient.startswith("default dtype") or what == "meta", f"refused under {ambient}: {error}"
    assert what in str(error)
    assert "torch.set_default_dtype(torch.float32)" in str(error) or "set_default_device" in str(error)
    assert "damaged" not in str(error)


@pytest.mark.parametrize("ambient", AMBIENT)
@pytest.mark.parametrize(("family", "call"), CALLS, ids=str)
def test_an_instrument_gives_the_same_numbers_or_refuses(family, call, ambient, bridges, plain):
    expected = plain[family, str(call)]
    result = outcome(call.measure, bridges[family], ambient)
    if isinstance(result, ValueError):
        assert_says_what_to_call(result, ambient)
        return
    assert_same_numbers(result, expected)
    if isinstance(result, xr.Dataset):
        assert result.attrs["dtype"] == "float32"
        assert result.attrs["fingerprint"] == expected.attrs["fingerprint"]


@pytest.mark.parametrize("ambient", AMBIENT)
@pytest.mark.parametrize("family", tiny.NAMES)
def test_a_model_that_is_loaded_under_it_has_the_same_logits(family, ambient, tiny_folders, bridges):
    model = outcome(neolens.load, tiny_folders[family], ambient)
    if isinstance(model, ValueError):
        assert_says_what_to_call(model, ambient)
        return
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}
    assert torch.equal(plain_logits(model), plain_logits(bridges[family]))
    assert neolens.fingerprint(model) == neolens.fingerprint(bridges[family])


@pytest.mark.parametrize("ambient", ["autocast", "default device meta", "within device meta", "gradients"])
def test_an_instrument_leaves_the_ambient_state_as_it_was(ambient, bridges):
    with AMBIENT[ambient]():
        before = torch.get_default_device(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()
        neolens.attention(bridges["gpt-neo"], torch.ones(1, 5, dtype=torch.long, device="cpu"))
        assert (torch.get_default_device(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()) == before
