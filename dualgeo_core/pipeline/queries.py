"""Single queries of a benchmark with their evidence: the surest right, the surest wrong and the least sure answer.

Pages that show only images get a picture of each. The page of a benchmark shows the same queries on the map.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from PIL.Image import Image

from dualgeo_core.answering.answerer import Answered
from dualgeo_core.answering.answers import answer_of
from dualgeo_core.answering.spread import spread_of
from dualgeo_core.base.frames import read_table
from dualgeo_core.evaluation.query_figure import Query, query_figure
from dualgeo_core.evaluation.scores import errors_km
from dualgeo_core.maps.page import map_page
from dualgeo_core.maps.records import as_data_uri, map_record
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.photos.thumbnails import gallery_thumbnails, thumbnail_jpeg
from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.opening import open_answerer, open_refiner
from dualgeo_core.pipeline.stage2 import main_candidates, main_predictions
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.refine.mixtures import Mixture

RIGHT_KM = 25  # an answer within this distance is shown as right
SHOWN_CANDIDATES = 20
PHOTO_PX = 240


@dataclass(frozen=True)
class ShownQueries:
    """The queries of a benchmark that are shown, by caption. A caption without an answer is left out."""

    workspace: Workspace
    benchmark: str

    def figures(self) -> dict[str, Figure]:
        """A picture of each query."""
        gallery = self.workspace.photos(GALLERY)

        def gallery_photo(photo_id: str) -> Image:
            return decode_image(gallery.image(photo_id))

        return {
            caption: query_figure(
                Query(
                    photo=self._photo(answer["id"]),
                    truth=self._truth.loc[answer["id"]],
                    candidates=self._similar(answer["id"]),
                    answer=answer,
                ),
                gallery_photo,
            )
            for caption, answer in self._answers.items()
        }

    def page(self) -> str:
        """One HTML file with the map of the queries, which are at least one."""
        predictions = Artifacts(self.workspace).predictions(self.benchmark).require().content
        calibrated = open_refiner(self.workspace).alone.calibration.photographers > 0
        radius_km = self.workspace.profile.refinement.cluster_radius_km
        pictures = self._pictures()
        records = []
        mixtures = self._mixtures()
        for caption, answer in self._answers.items():
            photo_id, similar = answer["id"], self._similar(answer["id"])
            shown = answer_of(
                f"{caption}, {photo_id}",
                answer,
                candidates=similar,
                reason=None,
                spread=spread_of(mixtures[photo_id], similar, cluster_radius_km=radius_km),
                locator=predictions,
                calibrated=calibrated,
            )
            latitude, longitude = self._truth.loc[photo_id, ["latitude", "longitude"]]
            record = map_record(
                shown,
                candidate_thumbnail=pictures.get,
                thumbnail=as_data_uri(thumbnail_jpeg(self._photo(photo_id), side=PHOTO_PX)),
                truth=(float(latitude), float(longitude)),
            )
            records.append(record)
        return map_page(records, title=f"Single queries of {self.benchmark}", note="Located by DualGeo.")

    def _mixtures(self) -> dict[str, Mixture]:
        """The posterior of each shown query, by id. One query may be shown under two captions."""
        answers = None
        if self.workspace.profile.lmm.enabled:
            answers = read_table(Artifacts(self.workspace).lmm_answers(self.benchmark))
        answered = Answered(self._candidates, answers, main_predictions(self.workspace, self.benchmark))
        shown = list(dict.fromkeys(answer["id"] for answer in self._answers.values()))
        return dict(zip(shown, open_answerer(self.workspace).mixtures(answered, shown), strict=True))

    def _pictures(self) -> dict[str, str]:
        """The pictures of all gallery photos that are shown, by id."""
        similar = pd.concat([self._similar(answer["id"]) for answer in self._answers.values()])
        found = gallery_thumbnails(self.workspace.photos(GALLERY), similar["gallery_id"].tolist())
        return {photo_id: as_data_uri(jpeg) for photo_id, jpeg in found.items()}

    @cached_property
    def _answers(self) -> "dict[str, pd.Series[Any]]":
        found = main_predictions(self.workspace, self.benchmark).dropna(subset=["latitude", "confidence_25km"])
        if found.empty:
            return {}
        truth = self._truth.reset_index()
        errors = pd.Series(errors_km(found, truth), index=truth["id"]).loc[found["id"]].to_numpy()
        sure = found.assign(right=errors <= RIGHT_KM).sort_values("confidence_25km", ascending=False)
        shown = {
            "Surest right answer": sure[sure["right"]].head(1),
            "Surest wrong answer": sure[~sure["right"]].head(1),
            "Least sure answer": sure.tail(1),
        }
        return {caption: rows.iloc[0] for caption, rows in shown.items() if len(rows)}

    @cached_property
    def _truth(self) -> pd.DataFrame:
        return self.workspace.photos(self.benchmark).frame.set_index("id")

    @cached_property
    def _candidates(self) -> pd.DataFrame:
        return main_candidates(self.workspace, self.benchmark)

    def _similar(self, photo_id: str) -> pd.DataFrame:
        """The most similar gallery photos of a query, best first."""
        found = self._candidates[(self._candidates["id"] == photo_id) & (self._candidates["kind"] == "similar")]
        return found.sort_values("rank").head(SHOWN_CANDIDATES)

    def _photo(self, photo_id: str) -> Image:
        return decode_image(self.workspace.photos(self.benchmark).image(photo_id))
