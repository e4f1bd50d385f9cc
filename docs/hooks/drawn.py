"""The figures of the documentation, by name: each is computed from the models that ship in the package."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import plotly.graph_objects as go
import torch
import xarray as xr

import neolens
from neolens import figures
from neolens.ablation import Beyond, by_distance
from neolens.lab.evaluation.curves import curves
from neolens.lab.language.documents import spaced
from neolens.models import lab_seeds
from neolens.prompts import chunks, induction, lab_documents, random_repeats
from neolens.studies.rotary_vs_absolute import measure as position_measure
from neolens.studies.rotary_vs_absolute.measure import over_seeds, probe
from neolens.studies.window_reach.measure import at_distances, planted

WINDOW = 16
MATCHED = ("lab/gpt-neo", "lab/gpt-neo-global")
ENCODINGS = ("lab/gpt2", "lab/pythia-sequential")


def mass_by_distance() -> tuple[go.Figure, str]:
    found = {}
    for name in MATCHED:
        model = neolens.load(name)
        texts = [chunks(model.tokenizer, text, 128, prompts=1) for text in lab_documents(8, 128)]
        found[name] = neolens.attention(model, torch.cat(texts))
    return figures.mass_by_distance(
        found
    ), "Seed 0 of each arm. The mass of local layers beyond the window is exactly 0."


def narrowing_by_distance() -> tuple[go.Figure, str]:
    found = {}
    for name in MATCHED:
        networks = [neolens.load(seed) for seed in lab_seeds(name)]
        distances = (8, 12, 15, 16, 24, 32, 48)
        pairs = {distance: planted(networks[0], "induction", distance, 16, 0) for distance in distances}
        found[name] = at_distances(networks, pairs, WINDOW)
    return (
        figures.narrowing_by_distance(found),
        "Induction, 16 prompts a distance, three seeds. Beyond the window of 16 the local arm loses everything with "
        "layer 2 in every seed; where all layers are global it is layer 1 in seeds 0 and 2, and layer 2 in seed 1.",
    )


@cache
def probed() -> Mapping[str, xr.Dataset]:
    """Every probe of positions on all seeds of the two arms that differ in their positions alone."""
    found = {}
    for name in ENCODINGS:
        texts = position_measure.texts(neolens.load(name), prompts=16)
        networks = [probe(neolens.load(seed), texts) for seed in lab_seeds(name)]
        found[name] = over_seeds(networks, range(len(networks)))
    return found


def shift_by_distance() -> tuple[go.Figure, str]:
    return figures.shift_by_distance(probed()), "What moves in the rotary network is rounding."


def toeplitz_shares() -> tuple[go.Figure, str]:
    return (
        figures.toeplitz_shares(probed()),
        "Exactly 1 in the first layer of the rotary network; in later layers tokens know their place by other means.",
    )


def distance_kernels() -> tuple[go.Figure, str]:
    return (
        figures.distance_kernels(probed()),
        "What singles out the previous token. In the rotary network the kernel comes back with the fastest band, every "
        "6.3 tokens.",
    )


def learning() -> tuple[go.Figure, str]:
    figure = figures.learning(curves(), distance=32).update_annotations(font_size=12)  # four panels side by side
    return figure, "Medians over three seeds, and the range between them."


def patching() -> tuple[go.Figure, str]:
    model = neolens.load("lab/gpt-neo")
    pairs = induction(model, prompts=32, distance=32)
    found = neolens.patch(model, pairs, "z", positions=["query"], progress=False)
    return figures.patch_heatmap(found), "The heads that bring the answer from 32 tokens back are those of layer 2."


def roles() -> tuple[go.Figure, str]:
    model = neolens.load("lab/gpt-neo")
    found = neolens.roles(model, random_repeats(model, 32, prompts=16), causes=True, progress=False)
    return figures.pattern_and_cause(found), ""


def ablation() -> tuple[go.Figure, str]:
    model, rng = neolens.load("lab/gpt-neo"), np.random.default_rng(0)
    documents = [spaced(rng, 128) for _ in range(64)]
    tokens = torch.from_numpy(np.stack([document.tokens for document in documents]))
    distance = np.stack([np.where(document.asked, document.distance, -1) for document in documents])
    result = neolens.ablate(model, tokens, neolens.by_kind(model, draws=0), how=Beyond(WINDOW), progress=False)
    return (
        figures.ablation_by_distance(by_distance(result, distance), window=WINDOW),
        "Keys 16 or more tokens back are taken from all heads of a kind. Cut off, local heads lose nothing.",
    )


FIGURES: Mapping[str, Callable[[], tuple[go.Figure, str]]] = {
    "mass_by_distance": mass_by_distance,
    "narrowing_by_distance": narrowing_by_distance,
    "shift_by_distance": shift_by_distance,
    "toeplitz_shares": toeplitz_shares,
    "distance_kernels": distance_kernels,
    "learning": learning,
    "patching": patching,
    "roles": roles,
    "ablation": ablation,
}
"""Name -> what draws the figure, and says in its caption what to see in it."""
