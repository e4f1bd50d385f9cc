"""Files appear whole or not at all, damage is noticed, and folders that cannot be written to are refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from neolens import files, results

NUMBERS = np.random.default_rng(0).normal(size=(40, 30))


@pytest.fixture
def result():
    return xr.Dataset({"score": (("prompt", "pos"), NUMBERS)}, attrs={"model": "lab/nope"})


def damaged(content, offset):
    return content[:offset] + bytes([content[offset] ^ 0xFF]) + content[offset + 1 :]


def offsets(content, count=20):
    """Random ones, and those of the last bytes, which are the checksum."""
    drawn = np.random.default_rng(1).integers(len(content), size=count)
    return [*map(int, drawn), len(content) - 1, len(content) - 40, len(content) - 80]


def test_a_flipped_byte_anywhere_in_a_result_is_refused(result, tmp_path):
    path = results.save(result, tmp_path / "x.nc")
    content = path.read_bytes()
    for offset in offsets(content):
        path.write_bytes(damaged(content, offset))
        with pytest.raises(ValueError, match=r"x\.nc(: not a netCDF file| is damaged: measure it again)"):
            results.load(path)


def test_a_flipped_byte_anywhere_in_several_results_is_refused(result, tmp_path):
    path = results.save_parts({"one": result, "two": result}, tmp_path / "x.nc")
    content = path.read_bytes()
    for offset in offsets(content):
        path.write_bytes(damaged(content, offset))
        with pytest.raises(ValueError, match=r"x\.nc(: not a netCDF file| is damaged: measure it again)"):
            results.load_parts(path)


@pytest.mark.parametrize("length", [0, 1, 8, 100, 0.5, 0.99])
def test_a_truncated_result_is_refused(length, result, tmp_path):
    path = results.save(result, tmp_path / "x.nc")
    content = path.read_bytes()
    path.write_bytes(content[: length if isinstance(length, int) else int(length * len(content))])
    with pytest.raises(ValueError, match=r"x\.nc(: not a netCDF file| is damaged: measure it again)"):
        results.load(path)


def test_a_result_of_an_earlier_version_is_read_with_a_warning(result, tmp_path):
    path = tmp_path / "old.nc"
    result.to_netcdf(path, engine="h5netcdf")
    with pytest.warns(UserWarning, match=r"old\.nc is of an earlier version and has no checksum"):
        xr.testing.assert_identical(results.load(path), result)


def test_any_netcdf_reader_opens_a_result(result, tmp_path):
    path = results.save(result, tmp_path / "x.nc")
    np.testing.assert_array_equal(xr.load_dataset(path, engine="h5netcdf")["score"], NUMBERS)


def test_several_results_are_not_read_as_one(result, tmp_path):
    path = results.save_parts({"one": result}, tmp_path / "x.nc")
    with pytest.raises(ValueError, match="several results, not one: read it with neolens.results.load_parts"):
        results.load(path)


FULL = """
import resource, sys
import numpy as np, xarray as xr
from neolens import results
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    results.save(xr.Dataset({"a": (("prompt", "pos"), np.random.rand(300, 300))}), sys.argv[1])
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_one_error_and_the_file_of_before_stays(result, tmp_path):
    path = results.save(result, tmp_path / "x.nc")
    run = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"{path} cannot be written (File too large): free some space")
    assert os.listdir(tmp_path) == ["x.nc"]
    xr.testing.assert_identical(results.load(path), result)


def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    def partial(process, host=None):
        path = tmp_path / f".x.nc.{host or files._host()}.{process}.{'0' * 32}.partial"
        path.write_bytes(b"half")
        return path

    gone = partial(ended.pid)
    kept = [partial(os.getpid()), partial(ended.pid, "another"), tmp_path / ".mine.partial", tmp_path / "x.nc.partial"]
    for path in kept[2:]:
        path.write_bytes(b"mine")
    files.write_whole(tmp_path / "y.nc", lambda beside: beside.write_bytes(b"all"))
    assert not gone.exists()
    assert all(path.exists() for path in kept)


def link(tmp_path, target):
    path = tmp_path / "out"
    path.symlink_to(target)
    return path


FOLDERS = {
    "a link to nowhere": lambda tmp_path: link(tmp_path, tmp_path / "nowhere"),
    "a link to itself": lambda tmp_path: link(tmp_path, tmp_path / "out"),
    "a folder in a link to nowhere": lambda tmp_path: link(tmp_path, tmp_path / "nowhere") / "results",
    "a link to a file": lambda tmp_path: (tmp_path / "file").write_text("") or link(tmp_path, tmp_path / "file"),
    "a folder in a file": lambda tmp_path: (tmp_path / "file").write_text("") or tmp_path / "file" / "results",
    "a NUL byte": lambda tmp_path: f"{tmp_path}/a\0b",
    "no name": lambda tmp_path: "",
    "a folder that nobody can write to": lambda tmp_path: "/proc/results",
}


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_cannot_be_written_to_is_refused_by_its_name(folder, tmp_path):
    path = folder(tmp_path)
    with pytest.raises(ValueError, match=r"out folder .* cannot be written to \(.+\): give a folder that can be"):
        files.writable_folder(path)


def test_a_folder_without_free_space_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ValueError, match=r"cannot be written to \(1,000 bytes are free\)"):
        files.writable_folder(tmp_path)


@pytest.mark.parametrize("path", ["new", "new/er", "."])
def test_a_folder_that_can_be_written_to_is_accepted_and_not_created(path, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert files.writable_folder(tmp_path / path) == tmp_path / path
    assert sorted(tmp_path.iterdir()) == before


JSON = {
    "brackets": ("[" * 100_000, "is not valid JSON (nested too deeply)"),
    "a list": ("[1]", "holds a list"),
    "a number": ("3", "holds a int"),
    "nothing": ("", "is not valid JSON"),
    "text": ("no", "is not valid JSON"),
    "bytes": (b"\xff\xfe", "is not valid JSON"),
}


@pytest.mark.parametrize(("content", "reason"), JSON.values(), ids=JSON)
def test_a_file_that_holds_no_json_object_is_refused(content, reason, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match="record.json") as error:
        files.read_json(path, "a record of an experiment")
    assert reason in str(error.value)
    assert str(error.value).endswith("expected a record of an experiment")


def test_a_json_object_is_read(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"a": [1, None]}))
    assert files.read_json(path) == {"a": [1, None]}
    with pytest.raises(ValueError, match="no such file: expected a JSON object"):
        files.read_json(tmp_path / "none.json")


CLAIM = (
    "import sys, time; from neolens import files; files.claim_folder(sys.argv[1]); print(1, flush=True); time.sleep(99)"
)


def test_a_folder_into_which_another_process_writes_is_refused_until_that_one_is_killed(tmp_path):
    out = tmp_path / "out"
    other = subprocess.Popen([sys.executable, "-c", CLAIM, out], stdout=subprocess.PIPE)
    try:
        assert other.stdout.read(1) == b"1"
        with pytest.raises(ValueError, match=rf"another process \(pid {other.pid}\) writes into .*out: wait for it or"):
            files.claim_folder(out)
        assert files.claim_folder(tmp_path / "another").is_dir()
    finally:
        other.kill()
        other.wait()
    assert files.claim_folder(out) == out
    assert files.claim_folder(out) == out
    assert list(out.iterdir()) == []
    files.claim_folder(tmp_path)


def test_where_the_system_has_no_locks_a_folder_is_claimed_without_one(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    assert files.claim_folder(tmp_path / "out").is_dir()


def test_the_name_of_a_damaged_file_survives_another_process():
    import pickle

    error = pickle.loads(pickle.dumps(files.DamagedFileError("a.nc")))
    assert str(error) == "a.nc is damaged: measure it again"


RECORD = """
import resource, sys
from neolens import report
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
for write in (lambda: report.write_record(sys.argv[1], {"findings": ["x" * 5_000]}),
              lambda: report.write(sys.argv[1] + "/report.html", "x" * 5_000)):
    try:
        write()
    except OSError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_record_and_the_report_of_before(tmp_path):
    for name in ("record.json", "report.html"):
        (tmp_path / name).write_text("before")
    run = subprocess.run([sys.executable, "-c", RECORD, str(tmp_path)], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.partition(" cannot be written (File too large)")[0] for line in run.stdout.splitlines()] == [
        str(tmp_path / "record.json"),
        str(tmp_path / "report.html"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["record.json", "report.html"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"before"}
