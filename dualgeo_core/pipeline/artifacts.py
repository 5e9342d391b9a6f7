"""The current description of each artifact of a workspace: folder, step, recipe, and content of its inputs.

It is computed from records and settings, without opening the data. The number in a recipe is the version of the step's
code: raise it whenever the code gives another result for the same inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dualgeo_core.base.artifacts import Artifact, Record, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, fingerprint
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.refine.lmm.prompt import SYSTEM
from dualgeo_core.refine.refiner import SHIPPED_REFINER
from dualgeo_core.settings import Representation
from dualgeo_core.views.store import views_fingerprint


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of a workspace. A record is read once per instance, so use an instance for one step."""

    workspace: Workspace
    _records: dict[Path, Record] = field(default_factory=dict)

    def require(self, artifact: Artifact) -> Record:
        """The record of a current artifact. Raises InputError if it is not current."""
        if artifact.path not in self._records:
            self._records[artifact.path] = artifact.require()
        return self._records[artifact.path]

    def segmenter(self) -> Artifact:
        profile = self.workspace.profile
        # A codebook depends on the encoder, because it clusters the encoder's features. A checkpoint does not.
        seen_by = profile.encoder.fingerprint if profile.segmenter.kind == "codebook" else None
        return self._artifact("segmenter", recipe=[1, profile.segmenter.fingerprint, seen_by])

    def features(self, photos_name: str, *, encoder: str | None = None) -> Artifact:
        """The features of a photo set; `encoder` is the fingerprint of the loaded weights, known only to the step."""
        inputs = {"photos": self.workspace.photos(photos_name).fingerprint}
        artifact = self._artifact("features", photos_name, recipe=[1, self.workspace.profile.encoder.fingerprint])
        return replace(artifact, inputs=inputs if encoder is None else {**inputs, "encoder": encoder})

    def masks(self, photos_name: str) -> Artifact:
        inputs = {
            "photos": self.workspace.photos(photos_name).fingerprint,
            "segmenter": str(self.require(self.segmenter()).facts["fingerprint"]),
        }
        recipe = [1, self.workspace.profile.segmenter.fingerprint]
        return replace(self._artifact("masks", photos_name, recipe=recipe), inputs=inputs)

    def label_maps(self, photos_name: str) -> Artifact:
        """The masks at the model's label grid, written by the same step as the masks."""
        masks = self.require(self.masks(photos_name)).content
        artifact = self._artifact("label_maps", photos_name, recipe=[1, self.workspace.profile.model.label_grid])
        return replace(artifact, step="masks", inputs={"masks": masks})

    def relit_views(self, copy: int) -> Artifact:
        """Both views of a relit copy of the gallery; copies are numbered from 1."""
        profile = self.workspace.profile
        relighting = profile.relighting.model_dump(mode="json", exclude={"copies"})
        seen_by = [profile.encoder.fingerprint, profile.segmenter.fingerprint, profile.model.label_grid]
        inputs = {
            "photos": self.workspace.photos(GALLERY).fingerprint,
            "masks": self.require(self.masks(GALLERY)).content,
            "encoder": str(self.require(self.features(GALLERY)).facts["encoder"]),
            "segmenter": str(self.require(self.segmenter()).facts["fingerprint"]),
        }
        return self._artifact("relit_views", str(copy), recipe=[1, relighting, seen_by, copy], inputs=inputs)

    def views(self, photos_name: str) -> str:
        """The content hash of both views of a photo set."""
        features = self.require(self.features(photos_name))
        return views_fingerprint(features, self.require(self.label_maps(photos_name)))

    def model(self, representation: Representation) -> Artifact:
        """The trained model as it is: a run may choose training settings, and a gallery may grow without training."""
        folder = self.workspace.folder("models", representation)
        record = read_record(folder)
        return Artifact(path=folder, step="models", recipe=record.recipe if record else "", inputs={})

    def embeddings(self, representation: Representation) -> Artifact:
        inputs = {"views": self.views(GALLERY), **self._model_input(representation)}
        artifact = self._artifact("embeddings", representation, recipe=[1, representation])
        return replace(artifact, step="gallery_embeddings", inputs=inputs)

    def index(self, representation: Representation) -> Artifact:
        inputs = {"embeddings": self.require(self.embeddings(representation)).content}
        settings = self.workspace.profile.retrieval
        choice = [settings.index, settings.index_memory_gb, settings.least_recall]
        artifact = self._artifact("index", representation, recipe=[2, *choice])
        return replace(artifact, step="gallery_index", inputs=inputs)

    def candidates(self, benchmark: str) -> Artifact:
        profile = self.workspace.profile
        inputs = {"gallery views": self.views(GALLERY), "query views": self.views(benchmark)}
        for representation in profile.model.variants:
            inputs[f"{representation} index"] = self.require(self.index(representation)).content
            inputs |= self._model_input(representation)
        # The main representation's candidates are also stored with leakage.
        searched = [profile.model.variants, profile.model.main, profile.retrieval.model_dump(mode="json")]
        return self._artifact("candidates", benchmark, recipe=[2, searched], inputs=inputs)

    def clusters(self, benchmark: str) -> Artifact:
        radius_km = self.workspace.profile.refinement.cluster_radius_km
        return self._artifact("clusters", benchmark, recipe=[1, radius_km], inputs=self._found(benchmark))

    def refiner(self) -> Artifact:
        profile = self.workspace.profile
        main = profile.model.main
        split = [profile.training.validation_share, profile.training.validation_seed]
        inputs = {
            "index": self.require(self.index(main)).content,
            "views": self.views(GALLERY),
            **self._model_input(main),
            **{
                f"relit {copy}": self.require(self.relit_views(copy)).content
                for copy in range(1, profile.relighting.copies + 1)
            },
            "params_file": _given(profile.refinement.params_file, "refinement.params_file"),
            "shipped refiner": file_digest(SHIPPED_REFINER),
        }
        recipe = [4, profile.retrieval.model_dump(mode="json"), split, profile.refinement.least_likeness]
        return self._artifact("refiner", recipe=recipe, inputs=inputs)

    def lmm_answers(self, benchmark: str) -> Artifact:
        profile = self.workspace.profile
        asked = [profile.lmm.asked, profile.refinement.cluster_radius_km, SYSTEM]
        inputs = {**self._found(benchmark), "answers_file": _given(profile.lmm.answers_file, "lmm.answers_file")}
        return self._artifact("lmm_answers", benchmark, recipe=[1, asked], inputs=inputs)

    def predictions(self, benchmark: str) -> Artifact:
        inputs = {
            **self._found(benchmark),
            "lmm_answers": self.require(self.lmm_answers(benchmark)).content,
            "refiner": self.require(self.refiner()).content,
        }
        recipe = [2, self.workspace.profile.refinement.model_dump(mode="json")]
        return self._artifact("predictions", benchmark, recipe=recipe, inputs=inputs)

    def scores(self, benchmark: str) -> Artifact:
        settings = self.workspace.profile.evaluation
        inputs = {
            "predictions": self.require(self.predictions(benchmark)).content,
            "photos": self.workspace.photos(benchmark).fingerprint,
        }
        recipe = [2, settings.bootstrap_samples, settings.seed]
        return self._artifact("scores", benchmark, recipe=recipe, inputs=inputs)

    def locator(self) -> Artifact:
        profile = self.workspace.profile
        inputs = {
            "index": self.require(self.index(profile.model.main)).content,
            "views": self.views(GALLERY),
            "segmenter": self.require(self.segmenter()).content,
            "refiner": self.require(self.refiner()).content,
            **self._model_input(profile.model.main),
        }
        # The locator keeps the cost limit, too, and what else a request to a multimodal model needs.
        recipe = [2, profile.answering, profile.lmm.model_dump(mode="json")]
        return self._artifact("locator", recipe=recipe, inputs=inputs)

    def _found(self, benchmark: str) -> dict[str, str]:
        return {"candidates": self.require(self.candidates(benchmark)).content}

    def _model_input(self, representation: Representation) -> dict[str, str]:
        if representation == "encoder":
            return {}
        return {f"{representation} model": self.require(self.model(representation)).content}

    def _artifact(
        self, kind: str, name: str = "", *, recipe: list[Any], inputs: Mapping[str, str] | None = None
    ) -> Artifact:
        path = self.workspace.folder(kind, name)
        return Artifact(path=path, step=kind, recipe=fingerprint(kind, recipe), inputs=inputs or {})


def facts_of(artifact: Artifact) -> dict[str, Any]:
    """What the record of a current artifact says about it, and its content as `fingerprint`."""
    record = artifact.require()
    return {**record.facts, "fingerprint": record.content}


def _given(path: str | None, setting: str) -> str:
    """The digest of the file in a setting, `none` if unset. Raises InputError if the file is missing."""
    if path is None:
        return "none"
    if not Path(path).is_file():
        raise InputError(f"{setting} is {path}, which is not a file: correct the path")
    return file_digest(Path(path))
