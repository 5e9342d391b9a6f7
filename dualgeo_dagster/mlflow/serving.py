"""The registered model as MLflow runs it (models-from-code): a base64 photo in, where it was taken out."""

import base64
import binascii
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import yaml
from mlflow.pyfunc import PythonModel, PythonModelContext


class ServedLocator(PythonModel):
    """Answers rows of column `photo` (base64 of JPEG, PNG or HEIC); a photo that cannot be read gets its own status."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the packed locator; raises InputError where a file is not the one that was packed."""
        from dualgeo_core.answering.locator import Locator

        folder = Path(context.artifacts["locator"])
        self._locator = Locator(folder)
        # MLflow writes this file beside the artifacts of a model that it fetched from the registry.
        registered = folder.parent.parent / "registered_model_meta"
        self._version = str(yaml.safe_load(registered.read_text())["model_version"]) if registered.is_file() else None

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None
    ) -> list[dict[str, Any]]:
        """An answer per row, as `dualgeo locate --json` gives it, with the registered version."""
        from dualgeo_core.photos.decode import UndecodableImage, decode_image

        answers = []
        for number, encoded in enumerate(model_input["photo"]):
            try:
                image = decode_image(base64.b64decode(encoded, validate=True))
            except (UndecodableImage, binascii.Error) as error:
                answers.append({"photo": str(number), "status": f"unreadable: {error}", "model_version": self._version})
                continue
            answer = self._locator.locate(names=[str(number)], images=[image])[0]
            answers.append({**answer.as_json(), "model_version": self._version})
        return answers


mlflow.models.set_model(ServedLocator())
