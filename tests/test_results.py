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


def test_words_are_whole_in_a_file_of_several_results_that_were_read_from_files(tmp_path):
    words = ["a", "a much longer word"]
    read = []
    for number, word in enumerate(words):
        part = xr.Dataset({"loss": ("group", [0.0])}, coords={"group": [word]})
        read.append(results.load(results.save(part, tmp_path / f"{number}.nc")))
    path = results.save(xr.concat(read, "group"), tmp_path / "both.nc")
    assert results.load(path)["group"].values.tolist() == words


def test_a_variable_with_the_name_of_a_part_is_read_back(tmp_path):
    parts = {"loss": xr.Dataset({"loss": ("prompt", [0.5])}), "accuracy": xr.Dataset({"loss": ("prompt", [0.25])})}
    read = results.load_parts(results.save_parts(parts, tmp_path / "parts.nc"))
    assert {name: part["loss"].values.tolist() for name, part in read.items()} == {"loss": [0.5], "accuracy": [0.25]}


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


DATA = xr.Dataset({"x": ("prompt", np.zeros(2))})
CALLS = {
    "save None": (lambda tmp: results.save(None, tmp / "x.nc"), "result None: expected an xarray.Dataset"),
    "save an array": (lambda tmp: results.save(DATA["x"], tmp / "x.nc"), "expected an xarray.Dataset"),
    "save to a number": (lambda tmp: results.save(DATA, 3), "path 3: expected a path, such as 'result.nc'"),
    "save to nothing": (lambda tmp: results.save(DATA, ""), "path '': expected the name of a file"),
    "save to a folder": (lambda tmp: results.save(DATA, tmp), "is a folder: give the name of a file"),
    "save into a file": (lambda tmp: results.save(DATA, file(tmp) / "x.nc"), "cannot be written"),
    "save a set": (lambda tmp: results.save(DATA.assign_attrs(a={1}), tmp / "x.nc"), "cannot be written as netCDF"),
    "load None": (lambda tmp: results.load(None), "path None: expected a path"),
    "load a folder": (lambda tmp: results.load(tmp), "cannot be read (Is a directory): expected a result"),
    "load a NUL byte": (lambda tmp: results.load("a\0b"), "expected the name of a file"),
    "load_parts a list": (lambda tmp: results.load_parts([tmp]), "expected a path"),
    "save_parts None": (lambda tmp: results.save_parts(None, tmp / "x.nc"), "parts None: expected a mapping"),
    "save_parts a dataset": (lambda tmp: results.save_parts(DATA, tmp / "x.nc"), "expected a mapping"),
    "save_parts nothing": (lambda tmp: results.save_parts({}, tmp / "x.nc"), "expected at least one name"),
    "save_parts a number": (lambda tmp: results.save_parts({1: DATA}, tmp / "x.nc"), "a name in parts 1: expected"),
    "save_parts of None": (lambda tmp: results.save_parts({"a": None}, tmp / "x.nc"), "parts['a'] None: expected"),
    "save_parts dots": (lambda tmp: results.save_parts({"..": DATA}, tmp / "x.nc"), "part '..': expected names"),
    "stack a list": (lambda tmp: results.stack([DATA]), "expected a mapping from names to results"),
    "stack nothing": (lambda tmp: results.stack({}), "expected at least one name"),
    "stack other results": (lambda tmp: results.stack({"a": DATA}), "has no coordinate attention_kind"),
    "check None": (lambda tmp: results.check(None), "result None: expected an xarray.Dataset"),
}


def file(folder):
    (folder / "file").write_text("")
    return folder / "file"


@pytest.mark.untyped
@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_a_wrong_argument_ends_in_one_line_and_writes_nothing(call, message, tmp_path):
    with pytest.raises((TypeError, ValueError, OSError)) as error:
        call(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"file"}
