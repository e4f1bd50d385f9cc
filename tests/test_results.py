"""Results: the axis vocabulary, a file that is whole or absent, provenance."""

import json

import numpy as np
import pytest
import xarray as xr

import neolens
import tiny
from neolens import files, results


@pytest.fixture
def result(bridges):
    return neolens.attention(bridges["gpt-neo"], tiny.tokens())


def test_a_saved_result_is_read_back_the_same(result, tmp_path):
    path = results.save(result, tmp_path / "result.nc")
    xr.testing.assert_identical(results.load(path), result)
    assert [file.name for file in tmp_path.iterdir()] == ["result.nc"]


def test_the_local_against_global_comparison_is_one_line(result):
    by_kind = result["mean_distance"].groupby("attention_kind").mean(...)
    expected = result["mean_distance"].values[:, [1, 3]].mean()
    assert float(by_kind.sel(attention_kind="local")) == pytest.approx(expected)


def test_a_crash_while_writing_leaves_the_old_file_and_nothing_else(result, tmp_path):
    path = results.save(result, tmp_path / "result.nc")
    before = path.read_bytes()

    def crash(beside):
        beside.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, crash)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.nc"]


def test_a_name_as_long_as_a_name_may_be_can_be_written(tmp_path):
    path = tmp_path / f"{'n' * 252}.nc"
    files.write_whole(path, lambda beside: beside.write_bytes(b"all"))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"all"


def test_an_axis_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="axis 'token' is not in the vocabulary: expected prompt, pos"):
        results.check(xr.Dataset({"x": (("token",), np.zeros(2))}))


def test_layers_without_their_kinds_are_refused():
    with pytest.raises(ValueError, match="needs the coordinate attention_kind"):
        results.check(xr.Dataset({"x": (("layer",), np.zeros(2))}))


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        results.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("not a netCDF file, whatever its name says")
    with pytest.raises(ValueError, match="not a netCDF file"):
        results.load(tmp_path / "text.nc")


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written to"):
        files.writable_folder(tmp_path / "file")


def test_provenance_names_weights_versions_and_anatomy(bridges):
    model = bridges["pythia"]
    found = results.provenance(model, model.anatomy, seed=3, nothing=None)
    assert found["fingerprint"] == neolens.fingerprint(model)
    assert json.loads(found["versions"])["neolens"] == neolens.__version__
    assert json.loads(found["anatomy"])["parallel"] is True
    assert found["seed"] == 3
    assert "nothing" not in found


def test_several_results_come_back_from_one_file_as_they_were(result, tmp_path):
    other = xr.Dataset({"x": (("layer", "seed"), np.array([[1.0, np.nan]]))}, coords={"layer": [3], "seed": [0, 1]})
    other = other.assign_coords(attention_kind=("layer", ["local"])).assign_attrs(window=16, model="a/b")
    path = results.save_parts({"one": result, "other": other}, tmp_path / "parts.nc")
    back = results.load_parts(path)
    assert list(back) == ["one", "other"]
    xr.testing.assert_identical(back["one"], result)
    xr.testing.assert_equal(back["other"], other)
    assert back["other"].attrs["model"] == "a/b"
    assert [file.name for file in tmp_path.iterdir()] == ["parts.nc"]


def test_a_part_with_a_slash_in_its_name_is_refused(result, tmp_path):
    with pytest.raises(ValueError, match="part 'lab/gpt2': expected names without a slash"):
        results.save_parts({"lab/gpt2": result}, tmp_path / "parts.nc")
    assert not list(tmp_path.iterdir())


def test_what_is_not_several_results_is_refused(result, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        results.load_parts(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("not a netCDF file, whatever its name says")
    with pytest.raises(ValueError, match="not a netCDF file"):
        results.load_parts(tmp_path / "text.nc")
    with pytest.raises(ValueError, match="one result, not several"):
        results.load_parts(results.save(result, tmp_path / "one.nc"))
