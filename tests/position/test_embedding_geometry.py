"""The geometry of position embeddings: planted tables whose shape is known, and naive counterparts of every number."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lombscargle

import neolens
import tiny
from neolens.position import embedding_geometry
from neolens.whatif import what_if

CONTEXT, D_MODEL = 64, 32
PLACES = np.arange(CONTEXT)


@pytest.fixture
def planted(tmp_path_factory):
    """A tiny GPT-2 with a table of position embeddings, loaded by neolens; tokens too, if they are given."""

    def load(table, tokens=None, name="gpt2"):
        size = {"gpt2": "n_positions", "gpt-neo": "max_position_embeddings"}[name]
        model = tiny.model(name, **{size: len(table)})
        with torch.no_grad():
            model.transformer.wpe.weight.copy_(torch.as_tensor(table))
            if tokens is not None:
                model.transformer.wte.weight.copy_(torch.as_tensor(tokens))
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        return neolens.load(folder)

    return load


def directions(count, seed=0) -> np.ndarray:
    """Orthonormal rows."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(D_MODEL, D_MODEL)))[0][:count]


def noise(context=CONTEXT, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(context, D_MODEL))


def table_of(model) -> np.ndarray:
    return model.transformer.wpe.weight.detach().double().numpy()


# Shapes that are known -------------------------------------------------------------------------------------

WAVELENGTHS = (3.0, 7.3, 20.0, 64.0)


@pytest.mark.parametrize("wavelength", WAVELENGTHS)
def test_a_pure_helix_is_one_with_its_wavelength(wavelength, planted):
    turn = 2 * math.pi * PLACES / wavelength
    curve = np.stack([3 * np.cos(turn), 3 * np.sin(turn), PLACES / 10], axis=1)
    found = embedding_geometry(planted(7 + curve @ directions(3)))  # wherever its axis stands
    assert float(found["helix_share"]) == pytest.approx(1, abs=1e-6)
    assert float(found["helix_wavelength"]) == pytest.approx(wavelength, rel=1e-3)
    assert int(found["dimensions_99"]) <= 3
    assert float(found["variance_share"][:3].sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("wavelength", [64 / 3, 12.8, 4.0])
def test_a_circle_takes_two_dimensions_each_of_its_wavelength(wavelength, planted):
    turn = 2 * math.pi * PLACES / wavelength  # whole turns
    found = embedding_geometry(planted(np.stack([np.cos(turn), np.sin(turn)], axis=1) @ directions(2)))
    assert float(found["dimensions"]) == pytest.approx(2, abs=1e-4)
    assert (int(found["dimensions_90"]), int(found["dimensions_99"])) == (2, 2)
    np.testing.assert_allclose(found["wavelength"][:2], wavelength, rtol=1e-4)
    np.testing.assert_allclose(found["periodicity"][:2], 1, atol=1e-6)
    cosines = [math.cos(2 * math.pi * d / wavelength) for d in range(CONTEXT)]  # radii of one length
    np.testing.assert_allclose(found["similarity"], cosines, atol=1e-5)
    np.testing.assert_allclose(found["singular_value"][:2], [math.sqrt(32)] * 2, rtol=1e-5)  # sum of cos^2 over 64


def test_an_ellipse_has_the_dimensions_of_its_axes(planted):
    turn = 2 * math.pi * PLACES / 16
    found = embedding_geometry(planted(np.stack([3 * np.cos(turn), np.sin(turn)], axis=1) @ directions(2)))
    # shares of variance 9 / 10 and 1 / 10, so 1 / (81 / 100 + 1 / 100)
    assert float(found["dimensions"]) == pytest.approx(100 / 82, rel=1e-5)
    np.testing.assert_allclose(found["variance_share"][:2], [0.9, 0.1], atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5, 10, 20])
def test_so_many_equal_orthogonal_directions_are_so_many_dimensions(count, planted):
    # columns of a discrete cosine transform: orthogonal, of one length, each with mean 0
    columns = np.stack([np.cos(math.pi * (PLACES + 0.5) * (m + 1) / CONTEXT) for m in range(count)], axis=1)
    found = embedding_geometry(planted(columns @ directions(count)))
    assert float(found["dimensions"]) == pytest.approx(count, rel=1e-5)
    assert int(found["dimensions_90"]) == math.ceil(0.9 * count - 1e-4)
    assert int(found["dimensions_99"]) == count
    np.testing.assert_allclose(found["singular_value"][:count], math.sqrt(CONTEXT / 2), rtol=1e-5)


def test_a_straight_line_is_one_dimension_and_its_ends_look_apart(planted):
    """Its middle is the mean, which has no direction: pairs with it are left out of the similarity."""
    found = embedding_geometry(planted(np.arange(-4, 5)[:, None] * directions(1)))
    assert float(found["dimensions"]) == pytest.approx(1)
    # of nine places -4 to 4: at distance 1 eight pairs, two of them with the 0, the others alike: 1; at 2 seven pairs,
    # two with the 0, (-1, 1) opposed, four alike: 3 / 5; at 8 one, opposed
    np.testing.assert_allclose(found["similarity"][[0, 1, 2, 8]], [1, 1, 3 / 5, -1])


@pytest.mark.parametrize("seed", range(2))
def test_white_noise_is_neither_periodic_nor_a_helix_nor_flat(seed, planted):
    found = embedding_geometry(planted(noise(seed=seed)))
    assert (found["periodicity"] < 0.4)[:8].all()
    assert float(found["helix_share"]) < 0.3
    # the participation ratio of a Gaussian table of n rows and d columns is about n d / (n + d + 1): 21
    assert float(found["dimensions"]) == pytest.approx(CONTEXT * D_MODEL / (CONTEXT + D_MODEL + 1), rel=0.1)
    assert (abs(found["similarity"][1:32]) < 0.15).all()


# Naive counterparts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny.ABSOLUTE)
def test_singular_values_are_roots_of_the_centred_tables_covariances(name, bridges, tiny_models):
    found, table = embedding_geometry(bridges[name]), table_of(tiny_models[name])
    centred = np.array([row - sum(table) / len(table) for row in table])
    covariance = sum(np.outer(row, row) for row in centred)
    expected = np.sqrt(np.linalg.eigvalsh(covariance)[::-1])
    np.testing.assert_allclose(found["singular_value"], expected, rtol=1e-6)
    share = expected**2 / (expected**2).sum()
    np.testing.assert_allclose(found["variance_share"], share, rtol=1e-6)
    assert float(found["dimensions"]) == pytest.approx(1 / (share**2).sum())
    for level in (90, 99):
        count = next(n for n in range(1, 33) if sum(share[:n]) >= level / 100)
        assert int(found[f"dimensions_{level}"]) == count


@pytest.mark.parametrize("name", tiny.ABSOLUTE)
def test_similarity_is_the_mean_cosine_of_centred_rows_so_far_apart(name, bridges, tiny_models):
    table = table_of(tiny_models[name])
    centred = [row - table.mean(0) for row in table]
    for distance, got in enumerate(embedding_geometry(bridges[name])["similarity"].values):
        cosines = [
            float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))
            for a, b in zip(centred, centred[distance:], strict=False)
        ]
        assert got == pytest.approx(sum(cosines) / (CONTEXT - distance), abs=1e-9)


def test_coordinates_give_the_centred_table_back_in_as_many_orthogonal_columns(bridges, tiny_models):
    found, table = embedding_geometry(bridges["gpt2"], components=D_MODEL), table_of(tiny_models["gpt2"])
    coordinate = found["coordinate"].values
    gram = coordinate.T @ coordinate
    np.testing.assert_allclose(gram, np.diag(found["singular_value"].values ** 2), atol=1e-8)
    distances, expected = (
        np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (coordinate, table - table.mean(0))
    )
    np.testing.assert_allclose(distances, expected, atol=1e-8)


@pytest.mark.parametrize("name", tiny.ABSOLUTE)
def test_periodicity_is_the_highest_peak_of_scipys_periodogram(name, bridges):
    found = embedding_geometry(bridges[name], components=4)
    frequencies = np.linspace(math.pi / CONTEXT, math.pi, 8_000, endpoint=False)
    for component in range(4):
        coordinate = found["coordinate"].values[:, component]
        power = lombscargle(PLACES.astype(float), coordinate, frequencies, floating_mean=True, normalize=True)
        assert float(found["periodicity"][component]) == pytest.approx(power.max(), abs=1e-5)
        expected = 2 * math.pi / frequencies[power.argmax()]
        assert float(found["wavelength"][component]) == pytest.approx(expected, rel=1e-2)


def unexplained(curve, wavelength) -> float:
    """What least squares leave of a curve beside a straight line and a sinusoid, over all there is."""
    terms = [np.ones(len(curve)), np.arange(len(curve))]
    terms += [trig(2 * math.pi * np.arange(len(curve)) / wavelength) for trig in (np.cos, np.sin)]
    fit, *_ = np.linalg.lstsq(np.stack(terms, axis=1), curve, rcond=None)
    left = curve - np.stack(terms, axis=1) @ fit
    return float((left**2).sum() / ((curve - curve.mean(0)) ** 2).sum())


@pytest.mark.parametrize("name", tiny.ABSOLUTE)
def test_the_helix_is_what_least_squares_say_at_the_best_wavelength(name, bridges):
    found = embedding_geometry(bridges[name])
    curve = found["coordinate"].values[:, :3]
    at_best = unexplained(curve, float(found["helix_wavelength"]))
    assert float(found["helix_share"]) == pytest.approx(1 - at_best, abs=1e-9)
    others = [unexplained(curve, 2 * math.pi / f) for f in np.linspace(math.pi / CONTEXT, 3.14, 3000)]
    assert at_best <= min(others) + 1e-4


def test_a_bend_that_is_not_a_helix_is_so_in_part(planted):
    """Half of the variance in a circle, half in white noise along another direction."""
    turn = 2 * math.pi * PLACES / 16
    scatter = np.random.default_rng(3).normal(size=CONTEXT)
    curve = np.stack([np.cos(turn), np.sin(turn), scatter / scatter.std()], axis=1)
    assert 0.5 < float(embedding_geometry(planted(curve @ directions(3)))["helix_share"]) < 0.6


# Tokens ----------------------------------------------------------------------------------------------------


def test_the_share_of_tokens_is_their_variance_in_the_dimensions_of_positions(planted):
    basis = directions(5, seed=4)
    turn = 2 * math.pi * PLACES / 16
    # 25 / 26 of the variance along the first, so that one dimension holds 90 % of it and two hold 99 %
    table = np.stack([5 * np.cos(turn), np.sin(turn)], axis=1) @ basis[:2]
    # tokens spread by 1 along each dimension of positions, by 2 along each of three others: 2 / (2 + 12)
    codes = np.random.default_rng(0).normal(size=(tiny.VOCAB, 5))
    codes = np.linalg.qr(codes - codes.mean(0))[0] * [1, 1, 2, 2, 2]
    found = embedding_geometry(planted(table, 3 + codes @ basis))
    assert float(found["token_share"]) == pytest.approx(2 / 14, rel=1e-5)


@pytest.mark.parametrize(("inside", "expected"), [(True, 1), (False, 0)])
def test_tokens_within_the_dimensions_of_positions_share_all_and_others_nothing(inside, expected, planted):
    basis, turn = directions(6), 2 * math.pi * PLACES / 16
    table = np.stack([np.cos(turn), np.sin(turn)], axis=1) @ basis[:2]
    codes = np.random.default_rng(0).normal(size=(tiny.VOCAB, 2))
    found = embedding_geometry(planted(table, codes @ (basis[:2] if inside else basis[2:4])))
    assert float(found["token_share"]) == pytest.approx(expected, abs=1e-6)


# Sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny.ABSOLUTE)
def test_a_model_of_fewer_positions_than_dimensions_has_so_many_components(name, planted):
    table = noise(context=12)
    found = embedding_geometry(planted(table, name=name), components=20)
    assert found.sizes["component"] == found.sizes["pos"] == found.sizes["distance"] == 12
    expected = np.linalg.svd(table - table.mean(0), compute_uv=False)
    np.testing.assert_allclose(found["singular_value"], expected, atol=1e-5)
    kept = np.isfinite(found["periodicity"])
    assert kept.values.tolist() == [True] * 11 + [False]  # less the mean, 12 rows span 11 dimensions


@pytest.mark.parametrize("components", [1, 8, 31, 32, 40])
def test_components_that_are_not_kept_are_nan(components, bridges):
    found = embedding_geometry(bridges["gpt2"], components=components)
    there = [component < components for component in range(D_MODEL)]
    assert np.isfinite(found["coordinate"]).all("pos").values.tolist() == there
    for variable in ("wavelength", "periodicity"):
        assert np.isfinite(found[variable]).values.tolist() == there
    assert np.isfinite(found["singular_value"]).all()


@settings(max_examples=15, deadline=None)
@given(context=st.integers(4, 24), seed=st.integers(0, 999))
def test_shares_are_shares_for_any_table(context, seed, planted_once):
    found = embedding_geometry(planted_once(noise(context, seed)))
    for variable in ("periodicity", "helix_share", "token_share", "variance_share"):
        values = found[variable].values[np.isfinite(found[variable].values)]
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert float(found["variance_share"].sum()) == pytest.approx(1)
    wavelength = found["wavelength"].values[np.isfinite(found["wavelength"].values)]
    assert ((wavelength >= 2) & (wavelength <= 2 * context + 1e-9)).all()
    assert float(found["similarity"][0]) == pytest.approx(1)


@pytest.fixture(scope="module")
def planted_once(tmp_path_factory):
    """As `planted`, for tests whose tables are drawn."""

    def load(table):
        model, folder = tiny.model("gpt2", n_positions=len(table)), tmp_path_factory.mktemp("model")
        with torch.no_grad():
            model.transformer.wpe.weight.copy_(torch.as_tensor(table))
        model.save_pretrained(folder)
        return neolens.load(folder)

    return load


@pytest.mark.parametrize("treatment", ["zero", "mean", "shuffle"])
def test_the_table_is_taken_as_it_was_learned_whatever_is_in_force(treatment, bridges):
    plain = embedding_geometry(bridges["gpt2"])
    with what_if(bridges["gpt2"], positions=treatment):
        inside = embedding_geometry(bridges["gpt2"])
    assert inside.equals(plain)
    assert inside.attrs["components"] == 8


# What is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("components", "error", "message"),
    [
        (0, ValueError, "components 0: expected a whole number of at least 1"),
        (-3, ValueError, "components -3: expected a whole number of at least 1"),
        (2.0, TypeError, "components 2.0: expected a whole number"),
        (True, TypeError, "components True: expected a whole number"),
        ([3, 4], TypeError, r"components \[3, 4\]: expected a whole number"),
        ("all", TypeError, "components 'all': expected a whole number"),
    ],
)
def test_a_number_of_components_that_is_none_is_refused(components, error, message, bridges):
    with pytest.raises(error, match=message):
        embedding_geometry(bridges["gpt2"], components=components)


def test_models_without_learned_positions_are_refused(bridges):
    with pytest.raises(ValueError, match="has rotary positions: the geometry of position embeddings needs absolute"):
        embedding_geometry(bridges["pythia"])
    with pytest.raises(
        ValueError, match="has no position encoding: the geometry of position embeddings needs absolute"
    ):
        embedding_geometry(neolens.load("lab/nope"))


def test_three_positions_and_positions_that_are_all_alike_have_no_shape(planted):
    with pytest.raises(ValueError, match="learned 3 positions: a shape needs at least 4"):
        embedding_geometry(planted(noise(context=3)))
    with pytest.raises(ValueError, match="positions of .* are all alike: there is no shape"):
        embedding_geometry(planted(np.ones((8, D_MODEL))))


def test_a_model_with_hooks_on_it_and_other_models_are_refused(bridges, tiny_models):
    hook = ("hook_pos_embed", lambda x, hook: x)
    with (
        bridges["gpt2"].hooks(fwd_hooks=[hook]),
        pytest.raises(ValueError, match="the model has hooks at hook_pos_embed"),
    ):
        embedding_geometry(bridges["gpt2"])
    with pytest.raises(TypeError, match="expected a model from neolens.load, got GPT2LMHeadModel"):
        embedding_geometry(tiny_models["gpt2"])
