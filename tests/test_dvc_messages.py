"""Failures of DVC: one line with the set, the file and DVC's hint; a remote that is away is an outage."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.photo_versions import build_photo_set, photo_set_hash, recorded_versions

CONFLICT = "<<<<<<< HEAD\nouts:\n- md5: a.dir\n=======\nouts:\n- md5: b.dir\n>>>>>>> theirs\n"


def dvc(home: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=home, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose set `street` was added to DVC."""
    home = tmp_path_factory.mktemp("dvc")
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)
    dvc(home, "init", "-q")
    (home / "data" / "street").mkdir(parents=True)
    (home / "data" / "street" / "set.json").write_text("{}")
    dvc(home, "add", "-q", "data/street")
    return home


@pytest.fixture
def home(repository: Path, tmp_path: Path) -> Iterator[Path]:
    return shutil.copytree(repository, tmp_path / "home")


@pytest.fixture
def without_files(home: Path) -> Path:
    """The repository as another machine clones it: without the set's files."""
    shutil.rmtree(home / "data" / "street")
    shutil.rmtree(home / ".dvc" / "cache")
    return home


def failure(home: Path) -> Exception:
    with pytest.raises((InputError, ConnectionError)) as raised:
        build_photo_set("street", home=home, say=lambda line: None)
    assert "\n" not in str(raised.value)
    return raised.value


def test_files_that_no_remote_has_are_named_with_dvcs_hint(without_files: Path) -> None:
    fault = failure(without_files)
    assert isinstance(fault, InputError)
    for part in ("Checkout failed for following targets: data/street", "Is your cache up to date?", "No remote"):
        assert part in str(fault)


def test_a_remote_that_lacks_the_files_is_no_outage(without_files: Path, tmp_path: Path) -> None:
    dvc(without_files, "remote", "add", "-q", "-d", "empty", str(tmp_path / "empty"))
    assert isinstance(failure(without_files), InputError)


def test_a_remote_that_refuses_connections_is_an_outage(without_files: Path) -> None:
    dvc(without_files, "remote", "add", "-q", "-d", "away", "http://127.0.0.1:9/store")
    fault = failure(without_files)
    assert isinstance(fault, ConnectionError)
    assert "127.0.0.1:9 does not answer" in str(fault)


def test_a_set_called_connections_is_no_outage(without_files: Path) -> None:
    street = without_files / "data" / "street.dvc"
    named = street.with_name("connections.dvc")
    named.write_text(street.read_text().replace("street", "connections"))
    with pytest.raises(InputError, match="Checkout failed for following targets: data/connections"):
        build_photo_set("connections", home=without_files, say=lambda line: None)


def test_an_unknown_key_is_named_with_its_file(home: Path) -> None:
    record = home / "data" / "street.dvc"
    record.write_text(record.read_text() + "  nosuch: 1\n")
    fault = failure(home)
    assert "data/street.dvc' validation failed" in str(fault)
    assert "nosuch" in str(fault)


def test_conflict_markers_are_named_with_file_and_line(home: Path) -> None:
    (home / "data" / "street.dvc").write_text(CONFLICT)
    assert str(failure(home)).startswith(f"{home}/data/street.dvc, line 1: unresolved merge conflict")
    (home / "dvc.yaml").write_text("stages:\n" + CONFLICT)
    with pytest.raises(InputError, match=r"dvc.yaml, line 2: unresolved merge conflict"):
        recorded_versions(["street"], home=home)


@pytest.mark.parametrize("content", ["outs: [", "- md5: a\n", "outs:\n- path: street\n"])
def test_a_broken_record_is_named(home: Path, content: str) -> None:
    (home / "data" / "street.dvc").write_text(content)
    with pytest.raises(InputError, match=r"data/street\.dvc (is not|has no)"):
        photo_set_hash("street", home=home)


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        ("stages:\n", "DVC does not track data/made"),
        ("stages: [made]\n", r"dvc\.lock: stages is not a YAML mapping"),
        ("stages:\n  made:\n    cmd: x\n", r"dvc\.lock, stage made, has no entry outs\[0\]\.md5: .* `dvc repro made`"),
    ],
)
def test_a_broken_lock_is_named(home: Path, lock: str, fault: str) -> None:
    (home / "dvc.yaml").write_text("stages:\n  made:\n    cmd: x\n    outs: [data/made]\n")
    (home / "dvc.lock").write_text(lock)
    with pytest.raises(InputError, match=fault):
        photo_set_hash("made", home=home)


def test_empty_stages_are_no_stages(home: Path) -> None:
    for name in ("dvc.yaml", "dvc.lock"):
        (home / name).write_text("stages:\n")
    assert recorded_versions(["street"], home=home)
