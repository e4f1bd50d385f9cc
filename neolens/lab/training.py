"""Train the lab's networks: `python -m neolens.lab.training --out FOLDER`.

Eight to twelve minutes of one core an arm. Killed and started again, it goes on where it last saved; on the
CPU of one machine, with one number of threads, the same arm and seed give the same weights to the bit,
interrupted or not.
"""

import hashlib
import json
import platform
import time
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import transformers
import typer
from tqdm import tqdm
from transformers import PreTrainedModel

from neolens.lab.arms import ARMS, DIFFERENCES
from neolens.lab.competence import LENGTHS, competence, induction
from neolens.lab.keeping import State, discard, finished, save_state, saved_state, ship
from neolens.lab.recipe import Batch, Recipe, batch, learning_rate
from neolens.lab.start import fresh_model, parameter_groups

EVERY = 100
"""Steps between two savings of the state, and between two points of the curve."""


def train(
    name: str,
    out: Path,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    device: str = "cpu",
    every: int = EVERY,
) -> Path:
    """Train one arm into the folder `out / name` and return it, going on from what an earlier run left.

    A folder that is already complete, on the same terms, is left as it is.

    Raises:
        ValueError: an unknown arm, a seed below 0, a GPU where there is none, or a folder that holds a training on
            other terms.
        OSError: `out` cannot be written.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: torch sees no GPU here; leave it at cpu")
    recipe = recipe or Recipe()
    terms = terms_of(name, seed, recipe)
    folder = out / name
    unfinished = out / f"{name}.unfinished"
    if finished(folder, terms):
        discard(unfinished)
        return folder
    state = saved_state(unfinished, terms) or State(terms)
    unfinished.mkdir(parents=True, exist_ok=True)
    model, optimizer = _at(state, recipe, device)
    for _ in steps(model, optimizer, recipe, state):
        if state.step % every == 0 or state.step == recipe.steps:
            state.curve.append(_point(model, state, every))
            state.model, state.optimizer = model.state_dict(), optimizer.state_dict()
            save_state(unfinished, state)
    ship(folder, model.eval(), card(model, state, recipe))
    discard(unfinished)
    return folder


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
        ValueError: an unknown arm, or a seed below 0.
    """
    if name not in ARMS:
        near = get_close_matches(name, ARMS, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"arms are {', '.join(ARMS)}"
        raise ValueError(f"no arm {name!r}: {hint}")
    if seed < 0:
        raise ValueError(f"seed {seed}: seeds are 0 and above")
    return {"arm": name, "seed": seed, "recipe": recipe.as_json()}


def steps(model: PreTrainedModel, optimizer: torch.optim.Optimizer, recipe: Recipe, state: State) -> Iterator[int]:
    """Train to the end of the recipe, telling after each step, in `state` too, how many are done."""
    seed, began, before = state.terms["seed"], time.perf_counter(), state.seconds
    with tqdm(total=recipe.steps, initial=state.step, desc=state.terms["arm"], unit="step") as bar:
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


def _point(model: PreTrainedModel, state: State, every: int) -> dict[str, Any]:
    lengths = [n for n in LENGTHS if 2 * n < model.config.max_position_embeddings]
    model.eval()
    reached = {str(n): round(induction(model, n, prompts=16), 4) for n in lengths}
    return {"step": state.step, "loss": round(float(np.mean(state.losses[-every:])), 4), "induction": reached}


def card(model: PreTrainedModel, state: State, recipe: Recipe) -> dict[str, Any]:
    """What a reader of the weights should know: data, size, training, competence, versions."""
    first = batch(recipe, state.terms["seed"], 0).tokens
    lengths = [n for n in LENGTHS if 2 * n < model.config.max_position_embeddings]
    return {
        "name": f"lab/{state.terms['arm']}",
        **state.terms,
        "data": "synthetic English: background sentences, periodic and spaced repeats (neolens.lab.language)",
        "differences_not_asked_for": list(DIFFERENCES),
        "parameters": model.num_parameters(),
        "first_batch_sha256": hashlib.sha256(first.astype("<i8").tobytes()).hexdigest(),
        "tokens_seen": recipe.steps * recipe.tokens,
        "loss": round(float(np.mean(state.losses[-100:])), 4),
        "competence": competence(model, lengths),
        "curve": state.curve,
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


def main(
    arm: Annotated[list[str] | None, typer.Option(help="An arm to train; all of them if none is named.")] = None,
    seed: Annotated[int, typer.Option(help="Decides starting values and texts.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the folders go, one an arm.")] = Path("lab-models"),
    steps: Annotated[int, typer.Option(help="Length of the training.")] = Recipe.steps,
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; the weights depend on it in the last bits.")] = 1,
) -> None:
    """Train the lab's networks, one after the other; go on where an earlier run was killed."""
    if arm is None:
        arm = list(ARMS)
    torch.set_num_threads(threads)
    try:
        for name in arm:
            folder = train(name, out, seed=seed, recipe=Recipe(steps=steps), device=device)
            table = json.loads((folder / "card.json").read_text())["competence"]["induction"]
            typer.echo(f"{folder}: induction " + ", ".join(f"{n}: {a:.2f}" for n, a in table.items()))
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
