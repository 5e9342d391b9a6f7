"""Candidates do not depend on which other queries are asked, nor on how many are handled at once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_views import MadeViews, OneShard, make_views
from torch import device

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.model.embed import embed
from dualgeo_core.model.fusion import Architecture, DualViewModel, new_model
from dualgeo_core.retrieval import candidates as candidates_module
from dualgeo_core.retrieval import gps_evidence
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.retrieval.index_build import build_index
from dualgeo_core.settings import ModelSettings, RetrievalSettings

PHOTOS = 24


def model_for(views: MadeViews) -> DualViewModel:
    settings = ModelSettings(width=16, heads=2, label_grid=16, gps_hidden=16)
    architecture = Architecture.of(
        settings=settings,
        variant="joint",
        encoder_width=views.width,
        image_tokens=views.tokens_per_photo,
        classes=views.classes,
    )
    return new_model(architecture=architecture, gps_weights="random", seed=0).eval()


@pytest.fixture
def queries() -> MadeViews:
    """The photos of the gallery, row by row, by somebody else and under other names: all of them near-duplicates."""
    views = make_views(places=6, photos_per_place=4)
    views.frame["author"] = "somebody else"
    views.frame["id"] = [f"query-{row}" for row in range(PHOTOS)]
    return views


@pytest.fixture
def retriever(tmp_path: Path) -> Retriever:
    gallery = make_views(places=6, photos_per_place=4)
    model = model_for(gallery)
    shards = [OneShard(embed(model=model, views=gallery, variant="joint").search_nd)]  # type: ignore[arg-type]
    artifact = Artifact(tmp_path / "index", step="gallery_index", recipe="made", inputs={})
    build_index(artifact, shards=shards, settings=RetrievalSettings())  # type: ignore[arg-type]
    return Retriever(
        representation="joint",
        model=model,
        index=GalleryIndex.open(artifact.path),
        gallery=gallery,
        settings=RetrievalSettings(candidates=5, near_duplicate_similarity=0.999),
        device=device("cpu"),
    )


def test_near_duplicates_are_left_out_for_any_rows_of_the_queries(retriever: Retriever, queries: MadeViews) -> None:
    rows = np.array([17, 3, 11, 8])
    some = retriever.candidates(queries, rows)
    similar = some[some["kind"] == "similar"]
    own_row = pd.Series(rows, index=queries.frame["id"].iloc[rows])
    assert similar.groupby("id")["rank"].max().eq(5).all()
    assert (similar["gallery_row"].to_numpy() != own_row[similar["id"]].to_numpy()).all()
    _assert_same(some, retriever.candidates(queries), ids=list(own_row.index))


def test_candidates_do_not_depend_on_how_many_queries_are_handled_at_once(
    retriever: Retriever, queries: MadeViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = retriever.candidates(queries)
    for module in (candidates_module, gps_evidence):
        monkeypatch.setattr(module, "QUERIES_AT_ONCE", 7)  # four chunks, the last one of 3 queries
    _assert_same(retriever.candidates(queries), expected, ids=queries.frame["id"].tolist())


def _assert_same(found: pd.DataFrame, expected: pd.DataFrame, ids: list[str]) -> None:
    """Row by row, in any order of the queries; scores within the rounding of another batch size."""
    keys = ["id", "kind", "rank"]
    tables = [table[table["id"].isin(ids)].sort_values(keys).reset_index(drop=True) for table in (found, expected)]
    assert tables[0]["id"].nunique() == len(ids)
    pd.testing.assert_frame_equal(tables[0], tables[1], rtol=1e-4, atol=1e-5)
