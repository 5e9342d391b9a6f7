"""Albums: photos of one camera are located together; one photo alone, anchors, orders, and what is refused."""

import sys

import numpy as np
import pandas as pd
import pytest
from made_candidates import made_albums, made_benchmark

from dualgeo_core import cli
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import coordinates, destination, haversine_km
from dualgeo_core.evaluation.scores import evaluate
from dualgeo_core.refine.album.albums import gather_albums
from dualgeo_core.refine.fit import fit_refiner
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import load_refiner, save_refiner, shipped_refiner
from dualgeo_core.settings import RefinementSettings

PARIS, TOKYO = (48.85, 2.35), (35.68, 139.69)
NUMBERS = ["latitude", "longitude", "radius_50_km", "radius_90_km", "confidence_25km"]


def _photo(photo_id, *places):
    """Candidates of one photo: its places by rank."""
    latitude, longitude = zip(*places, strict=True)
    ranks = np.arange(1, len(places) + 1)
    return pd.DataFrame(
        {"id": photo_id, "kind": "similar", "rank": ranks, "latitude": latitude, "longitude": longitude}
    )


def _around(centre, count=8, radius_km=3.0, seed=0):
    random = np.random.default_rng(seed)
    found = destination(*centre, random.uniform(0, 360, count), random.uniform(0, radius_km, count))
    return list(zip(*found, strict=True))


def _torn(photo_id="torn"):
    """A photo that may be in either city, the one as likely as the other but for its ranks."""
    paris, tokyo = _around(PARIS, 4, seed=1), _around(TOKYO, 4, seed=2)
    return _photo(photo_id, *(place for pair in zip(paris, tokyo, strict=True) for place in pair))


def _albums(**columns):
    return pd.DataFrame(columns)


def _refine(candidates, albums=None, *, answers=None, params=None, ids=None, **settings):
    return predict(
        candidates=candidates,
        answers=answers,
        method="posterior" if albums is None else "album",
        params=params,
        settings=RefinementSettings(**settings),
        ids=ids,
        albums=albums,
    ).set_index("id")


def _km(row, place):
    return float(haversine_km(row["latitude"], row["longitude"], *place))


def test_an_album_of_one_photo_gets_the_single_photo_answer():
    candidates, answers, truth = made_benchmark(queries=60)
    albums = _albums(id=truth["id"][:50], album=[f"album {number}" for number in range(50)], order=np.arange(50) * 1e6)
    for told in (None, answers):
        single, found = _refine(candidates, answers=told), _refine(candidates, albums, answers=told)
        pd.testing.assert_frame_equal(found, single)


def test_photos_of_one_album_agree_on_a_place():
    candidates = pd.concat([_torn(), *(_photo(f"p{number}", *_around(TOKYO, seed=number)) for number in range(3))])
    albums = _albums(id=["torn", "p0", "p1", "p2"], album="a", order=[1e9, 1e9 + 3e4, 1e9 + 5e4, 1e9 + 9e4])
    single, found = _refine(candidates), _refine(candidates, albums)
    assert _km(found.loc["torn"], TOKYO) < 25
    assert found["confidence_25km"]["torn"] > single["confidence_25km"]["torn"] + 0.1
    assert found["radius_90_km"]["torn"] < single["radius_90_km"]["torn"]


def test_a_photo_may_be_where_only_the_others_point():
    scatter = list(zip(*coordinates(np.random.default_rng(3).normal(size=(8, 3))), strict=True))
    candidates = pd.concat([_photo("lost", *scatter), *(_photo(f"p{n}", *_around(TOKYO, seed=n)) for n in range(5))])
    albums = _albums(id=["lost", *(f"p{n}" for n in range(5))], album="a", order=1e9 + np.arange(6) * 1e4)
    assert _km(_refine(candidates).loc["lost"], TOKYO) > 500
    assert _km(_refine(candidates, albums).loc["lost"], TOKYO) < 25


def test_the_nearer_photo_in_order_counts_more():
    candidates = pd.concat([_torn(), _photo("paris", *_around(PARIS)), _photo("tokyo", *_around(TOKYO))])
    near = {}
    for city, place in (("paris", PARIS), ("tokyo", TOKYO)):
        orders = {"torn": 1e9, "paris": 5e8, "tokyo": 5e8, city: 1e9 + 1e4}
        albums = _albums(id=list(orders), album="a", order=list(orders.values()))
        near[city] = _km(_refine(candidates, albums).loc["torn"], place)
    assert near["paris"] < 25
    assert near["tokyo"] < 25


def test_without_an_order_all_photos_count_the_same():
    candidates = pd.concat([_torn(), _photo("paris", *_around(PARIS)), _photo("tokyo", *_around(TOKYO))])
    ids = ["torn", "paris", "tokyo"]
    none = _refine(candidates, _albums(id=ids, album="a"))
    blank = _refine(candidates, _albums(id=ids, album="a", order=np.nan))
    alone = _refine(candidates, _albums(id=ids, album="a", order=[1e9, np.nan, np.nan]))
    backwards = _refine(candidates.iloc[::-1], _albums(id=ids[::-1], album="a"))
    for other in (blank, alone, backwards.loc[none.index]):
        pd.testing.assert_frame_equal(other[NUMBERS], none[NUMBERS])
    assert not np.allclose(
        none.loc["torn", NUMBERS].astype(float), _refine(candidates).loc["torn", NUMBERS].astype(float)
    )


def test_photos_without_order_join_those_with_one():
    candidates = pd.concat([_torn(), _torn("blank"), *(_photo(f"p{n}", *_around(TOKYO, seed=n)) for n in range(4))])
    ids = ["torn", "blank", "p0", "p1", "p2", "p3"]
    albums = _albums(id=ids, album="a", order=[1e9, np.nan, 1e9 + 3e4, 1e9 + 5e4, 1e9 + 9e4, np.nan])
    found = _refine(candidates, albums)
    assert _km(found.loc["torn"], TOKYO) < 25
    assert _km(found.loc["blank"], TOKYO) < 25
    unordered = _refine(candidates, albums.drop(columns="order"))
    assert found.loc["blank", NUMBERS].tolist() == pytest.approx(unordered.loc["blank", NUMBERS].tolist())


def test_albums_never_mix():
    candidates, answers, _, albums = made_albums(queries=40, photographers=4)
    whole = _refine(candidates, albums, answers=answers)
    for name, album in albums.groupby("album"):
        mine = candidates[candidates["id"].isin(album["id"])]
        alone = _refine(mine, album, answers=answers[answers["id"].isin(album["id"])])
        assert alone[NUMBERS].to_numpy() == pytest.approx(whole.loc[alone.index, NUMBERS].to_numpy(), rel=1e-4), name
    assert not np.allclose(whole[NUMBERS], _refine(candidates, albums.assign(album="a"), answers=answers)[NUMBERS])


@pytest.mark.parametrize("has_candidates", [True, False])
def test_an_anchor_is_certain_and_draws_the_others(has_candidates):
    anchor = (35.70, 139.75)
    candidates = pd.concat([_torn(), _photo("gps", *_around(PARIS))] if has_candidates else [_torn()])
    albums = _albums(
        id=["torn", "gps"],
        album="a",
        order=[1e9, 1e9 + 1e4],
        latitude=[np.nan, anchor[0]],
        longitude=[np.nan, anchor[1]],
    )
    found = _refine(candidates, albums)
    assert _km(found.loc["torn"], TOKYO) < 25
    assert found.index.tolist() == (["torn", "gps"] if has_candidates else ["torn"])
    if has_candidates:
        known = found.loc["gps"]
        assert (known["status"], known["radius_90_km"], known["confidence_25km"]) == ("anchor", 0, 1)
        assert (known["latitude"], known["longitude"]) == anchor
        without = _refine(candidates, albums.drop(columns=["latitude", "longitude"]))
        assert _km(without.loc["torn"], PARIS) < 25


@pytest.mark.parametrize("place", [(-17.0, 179.999), (89.99, 20.0), (-90.0, 0.0), (0.0, -180.0)])
def test_poles_and_the_antimeridian_are_ordinary_places(place):
    candidates = pd.concat([_photo(f"p{n}", *_around(place, seed=n), TOKYO) for n in range(6)])
    ids = [f"p{n}" for n in range(6)]
    albums = _albums(id=ids, album="a", order=1e9 + np.arange(6) * 1e4)
    anchor = _albums(id=["gps"], album="a", order=[1e9], latitude=[place[0]], longitude=[place[1]])
    for table in (albums, albums.drop(columns="order"), pd.concat([albums, anchor])):
        found = _refine(candidates, table)
        assert np.isfinite(found[NUMBERS].to_numpy(float)).all()
        assert all(_km(row, place) < 25 for _, row in found.iterrows())
        assert (found["radius_50_km"] < found["radius_90_km"]).all()


def test_a_photo_without_evidence_stays_without_a_place():
    candidates = pd.concat([_photo("p0", *_around(TOKYO)), _photo("p1", *_around(TOKYO))])
    albums = _albums(id=["p0", "p1", "nothing"], album="a")
    found = _refine(candidates, albums, ids=["nothing", "p0", "p1"])
    assert found["status"].tolist() == ["no_evidence", "ok", "ok"]
    assert found["latitude"].isna().tolist() == [True, False, False]
    pd.testing.assert_frame_equal(found.loc[["p0", "p1"]], _refine(candidates, albums[:2]))


def test_the_unsure_abstain_by_the_risk_of_albums():
    candidates, _, _, albums = made_albums(queries=120, photographers=12)
    confidence = _refine(candidates, albums)["confidence_25km"]
    refiner = shipped_refiner()
    least, of_singles = (
        head.calibration.least_confidence(0.1) for head in (refiner.album.ordered.alone, refiner.alone)
    )
    assert ((confidence < least) != (confidence < of_singles)).any()
    found = _refine(candidates, albums, max_risk=0.1)
    assert ((found["status"] == "abstained") == (confidence < least)).all()


def test_a_large_album_is_read_through_a_window():
    ids = [f"p{number}" for number in range(300)]
    order = np.random.default_rng(0).permutation(300) * 1e5
    everyone = np.ones(300, dtype=bool)
    rows = np.array([7])
    ordered = gather_albums(_albums(id=ids, album="a", order=order), ids, order_column="order")
    near = ordered.neighbours(rows, everyone)[0]
    assert len(near) == 100
    left_out = np.setdiff1d(np.arange(300), [*near, 7])
    assert np.abs(order[near] - order[7]).max() <= np.abs(order[left_out] - order[7]).min()
    spread = ordered.without_order().neighbours(rows, everyone)[0]
    assert np.isnan(ordered.without_order().gaps(7, near)).all()
    assert len(spread) == 100
    assert np.diff(spread).max() <= 4
    batches = list(ordered.batches(64))
    assert [len(batch) for batch in batches] == [300]


@pytest.fixture(scope="module")
def made():
    """A fit without answers, from a table in random order."""
    candidates, _, truth, albums = made_albums(queries=80, photographers=8)
    albums = albums.sample(frac=1, random_state=0)
    return fit_refiner(candidates=candidates, answers=None, truth=truth, albums=albums)


def test_a_fit_locates_other_photographers_albums(made):
    candidates, _, truth, albums = made_albums(queries=200, photographers=20, each=4, seed=5)
    single = evaluate(predictions=_refine(candidates, params=made).reset_index(), truth=truth, bootstrap_samples=1)
    found = evaluate(
        predictions=_refine(candidates, albums, params=made).reset_index(), truth=truth, bootstrap_samples=1
    )
    assert found["acc_25km"] > single["acc_25km"] + 10
    assert found["coverage_90"] > 84
    mixed = albums.assign(album=albums["album"].sample(frac=1, random_state=1).to_numpy())
    control = evaluate(
        predictions=_refine(candidates, mixed, params=made).reset_index(), truth=truth, bootstrap_samples=1
    )
    assert control["acc_25km"] < single["acc_25km"] + 3


def test_a_refiner_keeps_its_album_part(made, tmp_path):
    save_refiner(tmp_path / "refiner.json", made)
    again = load_refiner(tmp_path / "refiner.json")
    assert again.fingerprint == made.fingerprint
    candidates, _, _, albums = made_albums(queries=20, photographers=2)
    before, after = (_refine(candidates, albums, params=refiner)[NUMBERS] for refiner in (made, again))
    assert after.to_numpy() == pytest.approx(before.to_numpy(), rel=1e-3)


def test_what_cannot_be_fitted_is_said():
    candidates, _, truth, albums = made_albums(queries=60, photographers=6)
    for table, fault in (
        (albums.assign(album="one"), "album 'one' holds photos by more than one author"),
        (albums.assign(album=albums["id"]), "fitting takes 50 photos by 2 photographers"),
    ):
        with pytest.raises(InputError, match=fault):
            fit_refiner(candidates=candidates, answers=None, truth=truth, albums=table)


@pytest.fixture
def files(tmp_path):
    candidates, answers, truth, albums = made_albums(queries=60, photographers=6)
    tables = {"candidates": candidates, "answers": answers, "photos": truth, "albums": albums}
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def _run(monkeypatch, capsys, *arguments):
    """Exit code and stderr of `dualgeo ...`, in this process."""
    monkeypatch.setattr(sys, "argv", ["dualgeo", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0, capsys.readouterr().err


def test_capture_times_are_read_by_a_fit_that_had_some(files, monkeypatch, capsys):
    albums = pd.read_csv(files / "albums.csv")
    taken = pd.to_datetime(albums["order"] / 1e3 + 1.2e9, unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S")
    albums.drop(columns="order").assign(taken=taken).to_csv(files / "timed.csv", index=False)
    data = [files / "candidates.csv", "--albums", files / "timed.csv"]
    refiner = files / "refiner.json"
    code, _ = _run(monkeypatch, capsys, "fit-refiner", *data, "--truth", files / "photos.csv", "--out", refiner)
    assert code == 0
    assert load_refiner(refiner).album.order_column == "taken"
    outs = []
    for name, more, said in (("timed", ["--params", refiner], False), ("shipped", [], True)):
        outs.append(files / f"{name}_out.csv")
        code, error = _run(monkeypatch, capsys, "refine", *data, "--method", "album", *more, "--out", outs[-1])
        assert code == 0
        assert ("the column taken: the albums are read without order" in error) == said
    plain = albums[["id", "album"]]
    plain.to_csv(files / "plain.csv", index=False)
    arguments = [
        "refine",
        data[0],
        "--albums",
        files / "plain.csv",
        "--method",
        "album",
        "--out",
        files / "plain_out.csv",
    ]
    assert _run(monkeypatch, capsys, *arguments)[0] == 0
    assert (files / "plain_out.csv").read_text() == outs[1].read_text()


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda t: t.drop(columns="album"), "albums.csv, line 1: column album is missing"),
        (lambda t: t.assign(id="q000.jpg"), "albums.csv, line 3, column id: 'q000.jpg' occurs twice"),
        (
            lambda t: t.assign(album=t["album"].mask(t.index == 4)),
            "albums.csv, line 6, column album: an empty cell is not an album",
        ),
        (lambda t: t.assign(order=t["order"].mask(t.index == 4, "last")), "albums.csv, line 6, column order: 'last'"),
        (lambda t: t.rename(columns={"order": "taken"}).assign(taken="May"), "albums.csv, line 2, column taken: 'May'"),
        (lambda t: t.assign(taken="2008-05-17"), "order and taken exclude each other"),
        (lambda t: t.assign(latitude=1.0), "latitude and longitude go together"),
        (lambda t: t.assign(latitude=91.0, longitude=0.0), "albums.csv, line 2, column latitude"),
        (lambda t: t.assign(latitude=1.0, longitude=np.nan), "albums.csv, line 2, column longitude"),
        (lambda t: t.assign(id=t["id"] + "x"), "no album holds a photo of the candidates"),
        (lambda t: t.assign(order=t.groupby("album").cumcount()), "column order: photos are 1 apart"),
    ],
)
def test_bad_albums_get_one_line_and_no_file(edit, fault, files, monkeypatch, capsys):
    edit(pd.read_csv(files / "albums.csv", dtype=object)).to_csv(files / "albums.csv", index=False)
    out = files / "out.csv"
    arguments = ["refine", files / "candidates.csv", "--method", "album", "--albums", files / "albums.csv"]
    code, error = _run(monkeypatch, capsys, *arguments, "--out", out)
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert fault in error
    assert not out.exists()


def test_albums_go_with_their_method_and_their_refiner(files, monkeypatch, capsys):
    refine, out = ["refine", files / "candidates.csv"], ["--out", files / "out.csv"]
    albums = ["--albums", files / "albums.csv"]
    code, error = _run(monkeypatch, capsys, *refine, "--method", "album", *out)
    assert (code, "give --albums ALBUMS.csv" in error) == (2, True)
    code, error = _run(monkeypatch, capsys, *refine, *albums, *out)
    assert (code, "give --method album" in error) == (2, True)
    fitted = ["fit-refiner", files / "candidates.csv", "--truth", files / "photos.csv", "--out", files / "refiner.json"]
    assert _run(monkeypatch, capsys, *fitted)[0] == 0
    code, error = _run(
        monkeypatch, capsys, *refine, "--method", "album", *albums, "--params", files / "refiner.json", *out
    )
    assert (code, "fitted without albums" in error) == (2, True)
    assert not (files / "out.csv").exists()


def test_broken_receivers_are_no_anchors(files, monkeypatch, capsys):
    albums = pd.read_csv(files / "albums.csv")
    outs = []
    for name, table in (("plain", albums), ("zero", albums.assign(latitude=0.0, longitude=0.0))):
        table.to_csv(files / "albums.csv", index=False)
        outs.append(files / f"{name}.csv")
        arguments = ["--method", "album", "--albums", files / "albums.csv", "--out", outs[-1]]
        assert _run(monkeypatch, capsys, "refine", files / "candidates.csv", *arguments)[0] == 0
    assert outs[0].read_text() == outs[1].read_text()
