"""Train one of the lab's networks: what `neolens lab train` does for each.

Nine to fourteen minutes of one core. Killed and started again, it goes on where it last saved; on the
CPU of one machine, with one number of threads, the same arm and seed give the same weights to the bit,
interrupted or not.
"""

import hashlib
import platform
import time
import warnings
from collections.abc import Collection, Iterator, Set
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import PreTrainedModel

from neolens import files
from neolens.checks import check_list, check_text, check_whole, check_whole_numbers, shown
from neolens.lab.evaluation.competence import by_distance, competence
from neolens.lab.training.recipe import Batch, Recipe, batch, learning_rate
from neolens.lab.training.start import fresh_model, parameter_groups
from neolens.lab.training.storage import (
    DamagedStateError,
    State,
    clear,
    damaged_file,
    discard,
    finished,
    round_to_half,
    save_state,
    saved_state,
    ship,
)
from neolens.lab.variants import ARMS, DIFFERENCES

EVERY = 50
"""Steps between two savings of the state, and between two points of the curve."""

CURVE, CURVE_PROMPTS = (12, 32, 88), 32
"""Distances at which the curve asks the tasks, one inside the window, one beyond it, one unseen in training."""

CHECKPOINTS = (0, *range(50, 1000, 50), *range(1000, 3500, 500))
"""Steps after which a training that is asked for checkpoints keeps one: dense where induction forms."""


def train(
    name: str,
    out: Path,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    device: str = "cpu",
    every: int = EVERY,
    checkpoints: Collection[int] = (),
    line: int = 0,
) -> Path:
    """Train one arm into the folder `out / name@seed` and return it, going on from what an earlier run left.

    A folder that is already complete, on the same terms, is left as it is, with the checkpoints that it has.

    Args:
        every: steps between two savings of the state.
        checkpoints: steps after which the network is kept, in the folders `step...` within.
        line: of the terminal, for the progress bar.

    Raises:
        TypeError, ValueError: an unknown arm, a seed below 0, another argument that cannot be meant, a GPU where there
            is none, a folder that holds a training on other terms, one that another process trains into, or an `out`
            that cannot be written to.
        OSError: `out` cannot be written to any more, for example because the disk is full.

    Warns:
        UserWarning: what an earlier run left is damaged, and the training starts anew.
    """
    check_device(device)
    recipe = Recipe() if recipe is None else recipe
    every, line = check_whole(every, "every", 1), check_whole(line, "line", 0, 1000)
    checkpoints, terms = check_steps(checkpoints), terms_of(name, seed, recipe)
    folder = files.writable_folder(out) / f"{name}@{terms['seed']}"
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    if not finished(folder, terms):
        unfinished.mkdir(parents=True, exist_ok=True)
        files.claim_folder(unfinished)
    if finished(folder, terms):  # perhaps since, by another process
        discard(unfinished)
        return folder
    if folder.exists():
        warnings.warn(f"{folder} is damaged: it is trained again", stacklevel=2)
    state = _left_by_earlier_run(unfinished, terms, checkpoints) or State(terms)
    model, optimizer = _at(state, recipe, device)
    if 0 in checkpoints and not state.step:
        _checkpoint(unfinished, model, state)
    for step in steps(model, optimizer, recipe, state, line=line):
        if step % EVERY == 0:
            state.curve.append(_point(model, state))
        if step in checkpoints:
            _checkpoint(unfinished, model, state)
        if step % every == 0 or step == recipe.steps:
            state.model, state.optimizer = model.state_dict(), optimizer.state_dict()
            save_state(unfinished, state)
    _finish(folder, model.eval(), state, recipe, unfinished)
    discard(unfinished)
    return folder


def _left_by_earlier_run(unfinished: Path, terms: dict[str, Any], checkpoints: Collection[int]) -> State | None:
    """The state to go on from; None where there is none, or where it or a checkpoint before it is damaged."""
    try:
        state = saved_state(unfinished, terms)
        for step in [step for step in checkpoints if state is not None and step <= state.step]:
            if (wrong := damaged_file(unfinished / f"step{step}")) is not None:
                raise DamagedStateError(f"{wrong} is missing or damaged")
    except DamagedStateError as error:
        warnings.warn(f"the training starts anew: {str(error).partition(': remove')[0]}", stacklevel=3)
        clear(unfinished)
        return None
    return state


def check_device(device: str) -> None:
    """Check that torch can compute there.

    Raises:
        TypeError, ValueError: it cannot.
    """
    check_text(device, "device", example="cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {shown(device)}: torch sees no GPU here; leave it at cpu")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise ValueError(
            f"device {shown(device)}: torch cannot use it here; give cpu, or cuda where there is one"
        ) from error


def check_steps(checkpoints: Any) -> tuple[int, ...]:
    """Steps after which a checkpoint is kept, none or several.

    Raises:
        TypeError, ValueError: no collection of whole numbers, or one of them twice.
    """
    steps = sorted(checkpoints) if isinstance(checkpoints, Set) else checkpoints
    steps = check_list(steps, "checkpoints", "steps", example="[0, 50]")
    return check_whole_numbers(steps, "checkpoints", 0, unit="steps") if steps else ()


def _checkpoint(unfinished: Path, model: PreTrainedModel, state: State) -> None:
    """Keep the network as it is after this step, unless an earlier run, cut off since, has kept it."""
    folder = unfinished / f"step{state.step}"
    if damaged_file(folder) is not None:
        told = {"name": model_name(state.terms), "arm": state.terms["arm"], "seed": state.terms["seed"]}
        ship(folder, model, told | {"step": state.step}, curve=[], checkpoints=None)


def _finish(folder: Path, model: PreTrainedModel, state: State, recipe: Recipe, unfinished: Path) -> None:
    """Round the weights to what will be stored, ask what the network can do, and write it all."""
    exact = competence(model)
    round_to_half(model)
    found = competence(model)
    lost = [
        abs(exact[part][task][key] - value)
        for part, tasks in found.items()
        for task, values in tasks.items()
        for key, value in values.items()
    ]
    told = card(model, state, recipe) | {
        "competence": found,
        "competence_changed_by_half_precision": round(max(lost), 4),
    }
    ship(folder, model, told, curve=state.curve, checkpoints=unfinished)


def model_name(terms: dict[str, Any]) -> str:
    """The public name of a trained arm, `lab/gpt-neo@1`."""
    return f"lab/{terms['arm']}@{terms['seed']}"


def _at(state: State, recipe: Recipe, device: str) -> tuple[PreTrainedModel, torch.optim.Optimizer]:
    """The network and its optimizer as they were in this state."""
    arm = ARMS[state.terms["arm"]]
    model = fresh_model(arm, recipe.size, state.terms["seed"]).to(device)
    groups = parameter_groups(model, arm, recipe.size, recipe.rate)
    optimizer = torch.optim.Adam(groups, betas=recipe.betas, foreach=False)
    if state.step:
        model.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
    return model, optimizer


def terms_of(name: str, seed: int, recipe: Recipe) -> dict[str, Any]:
    """What decides the weights, checked.

    Raises:
        TypeError, ValueError: an unknown arm, or a seed below 0.
    """
    check_text(name, "arm", example="gpt2")
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe {shown(recipe)}: expected a neolens.lab.training.recipe.Recipe")
    if name not in ARMS:
        near = get_close_matches(name, ARMS, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"arms are {', '.join(ARMS)}"
        raise ValueError(f"no arm {shown(name)}: {hint}")
    seed = check_whole(seed, "seed")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed {shown(seed)}: seeds are 0 and above, below 2^63")
    return {"arm": name, "seed": seed, "recipe": recipe.as_json()}


def steps(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, recipe: Recipe, state: State, *, line: int = 0
) -> Iterator[int]:
    """Train to the end of the recipe, telling after each step, in `state` too, how many are done."""
    seed, began, before = state.terms["seed"], time.perf_counter(), state.seconds
    name = model_name(state.terms)
    with tqdm(total=recipe.steps, initial=state.step, desc=name, unit="step", position=line, disable=None) as bar:
        while state.step < recipe.steps:
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * learning_rate(recipe, state.step)
            loss = descend(model, optimizer, batch(recipe, seed, state.step), recipe.clip)
            state.step += 1
            state.losses.append(loss)
            state.seconds = before + time.perf_counter() - began
            bar.update()
            bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
            yield state.step


def descend(model: PreTrainedModel, optimizer: torch.optim.Optimizer, texts: Batch, clip: float) -> float:
    """One step down the mean cross-entropy of the next token; returns it, in nats, from before the step."""
    model.train()
    tokens = torch.from_numpy(texts.tokens).to(model.device)
    positions = torch.from_numpy(texts.positions).to(model.device)
    logits = model(tokens[:, :-1], position_ids=positions, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.item()


def _point(model: PreTrainedModel, state: State) -> dict[str, float | int]:
    """A row of the curve: the loss since the row before, and accuracies such as `induction 32`."""
    model.eval()
    reached = by_distance(model, CURVE, prompts=CURVE_PROMPTS)
    row: dict[str, float | int] = {"step": state.step, "loss": round(float(np.mean(state.losses[-EVERY:])), 4)}
    return row | {f"{task} {d}": round(a, 4) for task, found in reached.items() for d, a in found.items()}


def card(model: PreTrainedModel, state: State, recipe: Recipe) -> dict[str, Any]:
    """What a reader of the weights should know, besides what they can do: data, size, training, versions."""
    first = batch(recipe, state.terms["seed"], 0).tokens
    return {
        "name": model_name(state.terms),
        **state.terms,
        "data": "synthetic English: background sentences, repeats, lists of keys and values, indirect-object stories "
        "(neolens.lab.language.documents)",
        "differences_not_asked_for": list(DIFFERENCES),
        "parameters": model.num_parameters(),
        "first_batch_sha256": hashlib.sha256(first.astype("<i8").tobytes()).hexdigest(),
        "tokens_seen": recipe.steps * recipe.tokens,
        "loss": round(float(np.mean(state.losses[-100:])), 4),
        "seconds": round(state.seconds, 1),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
    }
