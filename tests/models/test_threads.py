"""Threads, generators and stacks: what a model computes is what it computes alone, or the use is refused."""

import gc
import itertools
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

import neolens
import tiny
from as_built import assert_as_built, in_another_thread, plain_logits
from instrument_calls import PAIRS, TOKENS
from neolens.models.state import ThreadConflictError, state_of
from neolens.whatif import Freeze, Shift, what_if

GROUPS = {"1.0": [(1, 0)]}

OPERATIONS = {
    "attention": lambda model, engine: neolens.attention(model, TOKENS, scores=["sink"], engine=engine)["sink"],
    "patch": lambda model, engine: neolens.patch(
        model, PAIRS, "z", layers=[1], heads=[0], positions="all", engine=engine, progress=False
    )["patched"],
    "ablate": lambda model, engine: neolens.ablate(model, TOKENS, GROUPS, how="zero", engine=engine, progress=False)[
        "ablated"
    ],
}
CONTEXTS = (None, {"windows": 2}, {"positions": Freeze(2)})
"""What an operation is made in: the model as it is, or `what_if`."""
KINDS = list(itertools.product(OPERATIONS, ("auto", "hooks"), range(len(CONTEXTS))))


def measured(model: Any, kind: tuple[str, str, int], pause: float = 0.0) -> np.ndarray:
    name, engine, context = kind
    if CONTEXTS[context] is None:
        return OPERATIONS[name](model, engine).values
    with what_if(model, **CONTEXTS[context]):
        time.sleep(pause)
        return OPERATIONS[name](model, engine).values


@pytest.fixture(scope="module")
def models(tiny_folders):
    """Two models of their own: a hold that is left would break other tests."""
    return neolens.load(tiny_folders["gpt-neo"]), neolens.load(tiny_folders["pythia"])


@pytest.fixture(scope="module")
def alone(models):
    """(model, operation) -> its number when nothing else runs."""
    return {(number, kind): measured(model, kind) for number, model in enumerate(models) for kind in KINDS}


@pytest.fixture(scope="module")
def logits(models):
    return [plain_logits(model) for model in models]


@pytest.fixture
def fast_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def interleaved(models, programs, draw: random.Random) -> list[list[Any]]:
    """What each operation of each program gives, a number or an exception, with the programs run at the same time."""
    outcomes: list[list[Any]] = [[] for _ in programs]
    start = threading.Barrier(len(programs))
    pauses = [[draw.choice([0.0, 0.0, 1e-4, 1e-3]) for _ in range(2 * len(program))] for program in programs]

    def run(number: int) -> None:
        start.wait()
        for step, kind in enumerate(programs[number]):
            time.sleep(pauses[number][2 * step])
            try:
                outcomes[number].append(measured(models[number], kind, pauses[number][2 * step + 1]))
            except Exception as error:
                outcomes[number].append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(programs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    return outcomes


@pytest.mark.parametrize(("shared", "interleavings"), [(True, 150), (False, 50)], ids=["one model", "two models"])
def test_an_operation_beside_another_thread_gives_the_number_that_it_gives_alone_or_is_refused(
    shared, interleavings, models, alone, logits, fast_switches
):
    outcomes_of_kind = {"number": 0, "refusal": 0}
    for seed in range(interleavings):
        draw = random.Random(seed)
        used = [draw.randrange(2)] * 2 if shared else [0, 1]
        programs = [[draw.choice(KINDS) for _ in range(2)] for _ in used]

        outcomes = interleaved([models[number] for number in used], programs, draw)

        for number, program, results in zip(used, programs, outcomes, strict=True):
            for kind, result in zip(program, results, strict=True):
                if isinstance(result, np.ndarray):
                    outcomes_of_kind["number"] += 1
                    np.testing.assert_allclose(result, alone[number, kind], atol=1e-5, err_msg=f"seed {seed}, {kind}")
                else:
                    outcomes_of_kind["refusal"] += 1
                    assert isinstance(result, ThreadConflictError | ValueError), f"seed {seed}, {kind}: {result!r}"
        for number in set(used):
            assert_as_built(models[number], logits[number])
    assert outcomes_of_kind["number"] > 0
    assert (outcomes_of_kind["refusal"] > 0) == shared


# What another thread may not do meanwhile ------------------------------------------------------------------

USES = {
    "a forward pass": lambda model: model(TOKENS),
    "run_with_hooks": lambda model: model.run_with_hooks(TOKENS, fwd_hooks=[]),
    "run_with_cache": lambda model: model.run_with_cache(TOKENS),
    "generate": lambda model: model.generate(TOKENS[:1], max_new_tokens=2, do_sample=False, verbose=False),
    "what_if": lambda model: what_if(model, windows=5).__enter__(),
    **{name: lambda model, name=name: OPERATIONS[name](model, "auto") for name in OPERATIONS},
    **{f"{name} with hooks": lambda model, name=name: OPERATIONS[name](model, "hooks") for name in OPERATIONS},
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_use_of_the_model_is_refused_while_another_thread_is_within_what_if(use, models, logits):
    with what_if(models[0], windows=3):
        error = in_another_thread(lambda: use(models[0]))
    assert isinstance(error, ThreadConflictError)
    assert "what_if" in str(error)
    assert_as_built(models[0], logits[0])


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_use_of_the_model_is_refused_while_another_thread_runs_it_with_hooks(use, models, logits):
    outcomes = []

    def use_elsewhere(value, hook):
        outcomes.append(in_another_thread(lambda: use(models[0])))

    models[0].run_with_hooks(TOKENS, fwd_hooks=[("blocks.1.hook_mlp_out", use_elsewhere)])
    assert isinstance(outcomes[0], ThreadConflictError)
    assert "run_with_hooks" in str(outcomes[0])
    assert_as_built(models[0], logits[0])


def test_two_threads_may_measure_with_the_default_engine_at_once(models, alone):
    kind, results = ("attention", "auto", 0), []
    threads = [threading.Thread(target=lambda: results.append(measured(models[0], kind))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [np.abs(result - alone[0, kind]).max() for result in results] == [0.0] * 4


# How and where a context ends ------------------------------------------------------------------------------


def test_a_context_may_be_left_in_another_thread_than_it_was_entered(models, logits):
    context = what_if(models[0], windows=3)
    in_another_thread(context.__enter__)
    with pytest.raises(ThreadConflictError):
        models[0](TOKENS)
    context.__exit__(None, None, None)
    assert_as_built(models[0], logits[0])


def holding(model, **changes):
    with what_if(model, **changes):
        yield model.anatomy


def test_a_generator_that_is_closed_leaves_its_context(models, logits):
    generator = holding(models[0], windows=3)
    assert set(next(generator).windows) == {3}
    generator.close()
    assert_as_built(models[0], logits[0])


@pytest.mark.parametrize("cyclic", [False, True], ids=["by its reference count", "in a cycle"])
def test_a_generator_that_is_garbage_collected_leaves_its_context(cyclic, models, logits):
    generator = holding(models[0], windows=3)
    next(generator)
    assert len(state_of(models[0]).holds()) == 1
    if cyclic:
        cycle = [generator]
        cycle.append(cycle)
        del cycle
    del generator
    gc.collect()
    assert_as_built(models[0], logits[0])


def test_a_generator_may_be_collected_by_another_thread(models, logits):
    generators = [holding(models[0], windows=3)]
    next(generators[0])
    in_another_thread(generators.clear)
    assert_as_built(models[0], logits[0])


def test_generators_may_end_in_another_order_than_they_began(models, logits):
    first, second = holding(models[0], windows=3), holding(models[0], positions=Shift(5))
    next(first)
    next(second)
    first.close()
    with what_if(models[0], positions=Shift(5)):  # adds nothing to the second's
        anatomy = models[0].anatomy
    assert models[0].anatomy == anatomy
    assert models[0].anatomy.windows == state_of(models[0]).loaded.windows
    second.close()
    assert_as_built(models[0], logits[0])


CHANGES = [{"windows": 3}, {"windows": {1: 7, 2: "global"}, "positions": Freeze(4)}, {"positions": Shift(5)}]
ORDERS = list(itertools.permutations(range(3)))


def anatomy_within(model, changes):
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(what_if(model, **change))
        return model.anatomy


@pytest.mark.parametrize("as_stacks", [False, True], ids=["contexts", "ExitStacks"])
@pytest.mark.parametrize("leaving", ORDERS, ids=str)
@pytest.mark.parametrize("entering", ORDERS, ids=str)
def test_between_contexts_the_anatomy_is_that_of_the_remaining_ones(entering, leaving, as_stacks, models, logits):
    model = models[0]
    expected = {}
    for kept in itertools.chain.from_iterable(itertools.combinations(entering, count) for count in range(4)):
        expected[kept] = anatomy_within(model, [CHANGES[number] for number in kept])
    stacks = {}
    for number in entering:
        context = what_if(model, **CHANGES[number])
        stacks[number] = ExitStack() if as_stacks else context
        stacks[number].enter_context(context) if as_stacks else context.__enter__()

    remaining = list(entering)
    for number in leaving:
        assert model.anatomy == expected[tuple(remaining)]
        stacks[number].__exit__(None, None, None)
        remaining.remove(number)

    assert_as_built(model, logits[0])


def test_a_context_in_force_cannot_be_entered_again(models, logits):
    context = what_if(models[0], windows=3)
    with context:
        with pytest.raises(RuntimeError, match="in force already"), context:
            pass
        assert set(models[0].anatomy.windows) == {3}
        error = in_another_thread(context.__enter__)
        assert isinstance(error, RuntimeError)
        assert set(models[0].anatomy.windows) == {3}
    assert_as_built(models[0], logits[0])


def test_a_context_may_be_used_again_once_it_was_left(models, logits):
    context = what_if(models[0], windows=3)
    with context:
        within = plain_logits(models[0])
    assert_as_built(models[0], logits[0])
    with context:
        assert torch.equal(plain_logits(models[0]), within)
    assert_as_built(models[0], logits[0])


def test_a_context_that_was_refused_may_be_entered_later(models, logits):
    context = what_if(models[0], windows=3)
    with what_if(models[0], windows=5):
        assert isinstance(in_another_thread(context.__enter__), ThreadConflictError)
        assert set(models[0].anatomy.windows) == {5}
    with context:
        assert set(models[0].anatomy.windows) == {3}
    assert_as_built(models[0], logits[0])


def test_a_context_may_be_entered_within_a_hook_of_the_same_thread_and_left_after_the_run(models, logits):
    context = what_if(models[0], windows=3)
    models[0].run_with_hooks(
        tiny.tokens(length=9), fwd_hooks=[("blocks.1.hook_mlp_out", lambda value, hook: context.__enter__() and None)]
    )
    assert set(models[0].anatomy.windows) == {3}
    context.__exit__(None, None, None)
    assert_as_built(models[0], logits[0])
