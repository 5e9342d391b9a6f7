"""`dualgeo refine`, `fit-refiner` and `evaluate`: CSV in, CSV and JSON out, one line per user error."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from hostile_files import make_zero_device
from made_candidates import made_benchmark
from typer.testing import CliRunner

from dualgeo_core import cli
from dualgeo_core.refine.tables import PREDICTION_COLUMNS


@pytest.fixture
def files(tmp_path):
    candidates, answers, truth = made_benchmark(queries=60, photographers=6)
    for name, table in (("candidates", candidates), ("answers", answers), ("photos", truth)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def _run(monkeypatch, capsys, *arguments):
    """Exit code and stderr of `dualgeo ...`, in this process."""
    monkeypatch.setattr(sys, "argv", ["dualgeo", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0, capsys.readouterr().err


def _spoil(path, edit):
    table = pd.read_csv(path, dtype=object)
    edit(table).to_csv(path, index=False)


def test_from_candidates_to_scores(files, monkeypatch, capsys):
    out, scores = files / "predictions.csv", files / "scores.json"
    code, _ = _run(
        monkeypatch, capsys, "refine", files / "candidates.csv", "--answers", files / "answers.csv", "--out", out
    )
    assert code == 0
    predictions = pd.read_csv(out)
    assert tuple(predictions.columns) == PREDICTION_COLUMNS
    assert len(predictions) == 60
    code, _ = _run(monkeypatch, capsys, "evaluate", out, "--truth", files / "photos.csv", "--json", scores)
    assert code == 0
    found = json.loads(scores.read_text())
    for name in ("acc_1km", "acc_25km", "acc_200km", "acc_750km", "acc_2500km", "coverage_50", "coverage_90"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= found[name] <= high <= 100
    assert (found["n"], found["n_missing"]) == (60, 0)


def test_a_photo_called_na_keeps_its_id(files, monkeypatch, capsys):
    first = pd.read_csv(files / "candidates.csv", dtype=object)["id"][0]
    for name in ("candidates", "photos"):
        _spoil(files / f"{name}.csv", lambda table: table.assign(id=table["id"].replace(first, "NA")))
    out = files / "predictions.csv"
    assert _run(monkeypatch, capsys, "refine", files / "candidates.csv", "--out", out)[0] == 0
    assert _run(monkeypatch, capsys, "evaluate", out, "--truth", files / "photos.csv")[0] == 0
    assert "NA" in pd.read_csv(out, keep_default_na=False)["id"].tolist()


def test_a_fit_is_used_where_it_is_named(files, monkeypatch, capsys):
    fitted = files / "refiner.json"
    arguments = [files / "candidates.csv", "--answers", files / "answers.csv"]
    code, _ = _run(monkeypatch, capsys, "fit-refiner", *arguments, "--truth", files / "photos.csv", "--out", fitted)
    assert code == 0
    content = json.loads(fitted.read_text())
    assert content["data"]["photographers"] == 6
    outs = []
    for name, more in (("shipped", []), ("fitted", ["--params", fitted])):
        outs.append(files / f"{name}.csv")
        assert _run(monkeypatch, capsys, "refine", *arguments, *more, "--out", outs[-1])[0] == 0
    assert outs[0].read_text() != outs[1].read_text()


@pytest.mark.parametrize("method", ["rank1", "dbscan", "hdbscan"])
def test_methods_to_compare_with(method, files, monkeypatch, capsys):
    out = files / "out.csv"
    code, _ = _run(monkeypatch, capsys, "refine", files / "candidates.csv", "--method", method, "--out", out)
    assert code == 0
    assert pd.read_csv(out)["latitude"].notna().all()


@pytest.mark.parametrize(
    ("file", "edit", "column", "line"),
    [
        ("candidates", lambda t: t.drop(columns="rank"), "rank", 1),
        ("candidates", lambda t: t.assign(latitude=t["latitude"].mask(t.index == 4)), "latitude", 6),
        ("candidates", lambda t: t.assign(longitude=t["longitude"].mask(t.index == 4, "181")), "longitude", 6),
        ("candidates", lambda t: t.assign(latitude=t["latitude"].mask(t.index == 4, "north")), "latitude", 6),
        ("candidates", lambda t: t.assign(latitude=t["latitude"].mask(t.index == 4, "inf")), "latitude", 6),
        ("candidates", lambda t: t.assign(rank=t["rank"].mask(t.index == 4, "4")), "rank", 6),
        ("candidates", lambda t: t.assign(rank=t["rank"].mask(t.index == 4, "1.5")), "rank", 6),
        ("candidates", lambda t: t.assign(rank=t["rank"].mask(t.index == 4, "0")), "rank", 6),
        ("candidates", lambda t: t.assign(kind=t["kind"].mask(t.index == 4, "equal")), "kind", 6),
        ("candidates", lambda t: t.assign(id=t["id"].mask(t.index == 4)), "id", 6),
        ("candidates", lambda t: t.assign(similarity=t["latitude"].mask(t.index == 4)), "similarity", 6),
        ("candidates", lambda t: t.iloc[:0], "no row", None),
        ("answers", lambda t: t.assign(latitude=t["latitude"].mask(t.index == 4, "-91")), "latitude", 6),
        ("answers", lambda t: t.assign(longitude=t["longitude"].mask(t.index == 4)), "longitude", 6),
        ("answers", lambda t: t.assign(id=t["id"] + "x"), "no answer is about", None),
    ],
)
def test_bad_input_gets_one_line_and_no_file(file, edit, column, line, files, monkeypatch, capsys):
    _spoil(files / f"{file}.csv", edit)
    out = files / "out.csv"
    arguments = ["refine", files / "candidates.csv", "--answers", files / "answers.csv", "--out", out]
    code, error = _run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert column in error
    if line is not None:
        assert f"{file}.csv, line {line}" in error
    assert not out.exists()


def test_ids_that_the_truth_does_not_know_are_named(files, monkeypatch, capsys):
    _spoil(files / "photos.csv", lambda t: t.iloc[1:])
    out = files / "refiner.json"
    code, error = _run(
        monkeypatch, capsys, "fit-refiner", files / "candidates.csv", "--truth", files / "photos.csv", "--out", out
    )
    assert code == 2
    assert "candidates.csv, line 2, column id: 'q000.jpg'" in error
    assert not out.exists()
    predictions = files / "predictions.csv"
    assert _run(monkeypatch, capsys, "refine", files / "candidates.csv", "--out", predictions)[0] == 0
    code, error = _run(monkeypatch, capsys, "evaluate", predictions, "--truth", files / "photos.csv")
    assert code == 2
    assert "predictions.csv, line 2, column id" in error


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00binary\x00", b'id,kind,rank,latitude,longitude\n"a,similar,1,2,3', b"just words"]
)
def test_what_is_no_table_is_said(content, files, monkeypatch, capsys):
    (files / "candidates.csv").write_bytes(content)
    code, error = _run(monkeypatch, capsys, "refine", files / "candidates.csv", "--out", files / "out.csv")
    assert code == 2
    assert "candidates.csv" in error
    assert not (files / "out.csv").exists()


def test_ids_stay_text_and_rows_may_come_in_any_order(files, monkeypatch, capsys):
    table = pd.read_csv(files / "candidates.csv").assign(id=lambda t: t["id"].str[1:4])
    outs = []
    for name, rows in (("ordered", table), ("shuffled", table.sample(frac=1, random_state=0))):
        rows.to_csv(files / f"{name}.csv", index=False)
        outs.append(files / f"{name}_out.csv")
        assert _run(monkeypatch, capsys, "refine", files / f"{name}.csv", "--out", outs[-1])[0] == 0
    first, second = (pd.read_csv(out, dtype={"id": str}).sort_values("id", ignore_index=True) for out in outs)
    assert first["id"].tolist()[:2] == ["000", "001"]
    pd.testing.assert_frame_equal(first, second)


def test_help_teaches_and_starts_fast():
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "dualgeo_core.cli", "refine", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "torch" not in result.stderr


def test_a_record_of_another_length_is_refused_by_its_line(files, monkeypatch, capsys):
    lines = (files / "candidates.csv").read_text().splitlines()
    out = files / "out.csv"
    for at, line in ((4, lines[4] + ","), (5, "surplus," + lines[5]), (6, lines[6].rpartition(",")[0])):
        (files / "candidates.csv").write_text("\n".join([*lines[:at], line, *lines[at + 1 :]]))
        code, error = _run(monkeypatch, capsys, "refine", files / "candidates.csv", "--out", out)
        assert code == 2
        assert f"candidates.csv, line {at + 1}: " in error
    assert not out.exists()


def test_a_fault_is_named_by_its_line_not_by_its_record(files, monkeypatch, capsys):
    _spoil(files / "answers.csv", lambda t: t.assign(latitude=t["latitude"].mask(t.index == 4, "north")))
    table = pd.read_csv(files / "answers.csv", dtype=object)
    table.loc[0, "location"] = "a\nb\nc"
    table.to_csv(files / "answers.csv", index=False)
    header, rest = (files / "answers.csv").read_text().split("\n", 1)
    (files / "answers.csv").write_text(f"{header}\n\n{rest}")
    arguments = ["refine", files / "candidates.csv", "--answers", files / "answers.csv", "--out", files / "out.csv"]
    code, error = _run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "answers.csv, line 9, column latitude: 'north'" in error


def test_two_columns_of_one_name_are_refused(files, monkeypatch, capsys):
    path = files / "candidates.csv"
    path.write_text(path.read_text().replace("latitude", "Longitude", 1))
    code, error = _run(monkeypatch, capsys, "refine", path, "--out", files / "out.csv")
    assert code == 2
    assert "mean the same" in error


def test_ids_that_look_like_formulas_are_text_in_our_tables(files, monkeypatch, capsys):
    """And the same ids again when the table is read."""
    for name in ("candidates", "photos"):
        _spoil(files / f"{name}.csv", lambda t: t.assign(id="=" + t["id"]))
    out = files / "predictions.csv"
    assert _run(monkeypatch, capsys, "refine", files / "candidates.csv", "--out", out)[0] == 0
    assert pd.read_csv(out)["id"].str.startswith("'=q").all()
    code, error = _run(monkeypatch, capsys, "evaluate", out, "--truth", files / "photos.csv")
    assert (code, error) == (0, "")


@pytest.mark.parametrize("kind", ["pipe", "device", "below a file", "folder"])
def test_an_out_that_cannot_become_a_file_is_refused_before_the_work(kind, files, monkeypatch, capsys):
    out = files / "out"
    if kind == "pipe":
        os.mkfifo(out)
    elif kind == "device":
        if not make_zero_device(out):
            pytest.skip("this user may not make device nodes")
    elif kind == "folder":
        out.mkdir()
    else:
        out.write_text("mine")
    before = out.lstat()
    target = out / "out.csv" if kind == "below a file" else out
    absent = files / "absent.csv"  # would be the error if the work had begun
    for command in (
        ("refine", absent, "--out", target),
        ("fit-refiner", absent, "--truth", absent, "--out", target),
        ("evaluate", absent, "--truth", absent, "--json", target),
    ):
        code, error = _run(monkeypatch, capsys, *command)
        assert code == 2
        assert len(error.splitlines()) == 1
        assert error.startswith(f"dualgeo: {target} ")
    assert out.lstat() == before


def test_locate_refuses_what_is_not_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    names = ["pipe.jpg", *(["zero.jpg"] if make_zero_device(tmp_path / "zero.jpg") else [])]
    for name in names:
        read = f"upright_rgb({str(tmp_path / name)!r}, number=0)"
        code = f"from dualgeo_core.answering.photo_inputs import upright_rgb; {read}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert f"{name} is not a readable photo (not a regular file)" in done.stderr


def test_refine_and_evaluate_count_photos_by_one_legend(files, monkeypatch, capsys):
    out, shorter = files / "predictions.csv", files / "shorter.csv"
    answers = pd.read_csv(files / "answers.csv", dtype=object)
    answers[answers["id"].isin(answers["id"].unique()[:10])].to_csv(files / "answers.csv", index=False)
    arguments = ["refine", str(files / "candidates.csv"), "--answers", str(files / "answers.csv"), "--out", str(out)]
    refined = CliRunner().invoke(cli.app, arguments, catch_exceptions=False).stdout.splitlines()
    told = CliRunner().invoke(cli.app, ["evaluate", str(out), "--truth", str(files / "photos.csv")]).stdout.splitlines()
    assert refined[0] == f"{out}: 60 photos"
    assert refined[1] == "    60 with a position"
    assert any(line.endswith("gave no usable answer (no_answer)") for line in refined)
    assert told[1 : len(refined)] == refined[1:]

    pd.read_csv(out, dtype=object).iloc[:55].drop(columns="status").to_csv(shorter, index=False)
    told = CliRunner().invoke(cli.app, ["evaluate", str(shorter), "--truth", str(files / "photos.csv")]).stdout
    assert told.splitlines()[1:5] == [
        "    55 with a position",
        "        55 the status is not given",
        "     5 without a position",
        "         5 the photo is not among the predictions",
    ]
