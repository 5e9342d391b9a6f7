"""The registered model for MLflow (models from code): takes base64 photos, returns their predicted positions."""

import base64
import binascii
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import yaml
from mlflow.pyfunc import PythonModel, PythonModelContext


class ServedLocator(PythonModel):
    """Locates the photos in the column `photo` (JPEG, PNG, HEIC or WebP in base64).

    A photo that cannot be read gets a status instead of a position.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the locator folder. Raises InputError if a file has changed since it was packed."""
        from dualgeo_core.answering.locator import Locator

        folder = Path(context.artifacts["locator"])
        self._locator = Locator(folder)
        # MLflow writes this file next to the artifacts of a model downloaded from the registry.
        registered = folder.parent.parent / "registered_model_meta"
        self._version = str(yaml.safe_load(registered.read_text())["model_version"]) if registered.is_file() else None

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None
    ) -> list[dict[str, Any]]:
        """One answer per row, in the format of `dualgeo locate --json`, with the registered version added."""
        from dualgeo_core.photos.decode import UndecodableImage, decode_image

        answers = []
        for number, encoded in enumerate(model_input["photo"]):
            try:
                image = decode_image(_bytes(encoded))
            except (UndecodableImage, binascii.Error) as error:
                answers.append({"photo": str(number), "status": f"unreadable: {error}", "model_version": self._version})
                continue
            answer = self._locator.locate_images(names=[str(number)], images=[image])[0]
            answers.append({**answer.as_json(), "model_version": self._version})
        return answers


def _bytes(encoded: object) -> bytes:
    """The bytes of a row. Line breaks and spaces are ignored. Raises binascii.Error if the row is not base64 text."""
    if not isinstance(encoded, str):
        raise binascii.Error(f"expected base64 text, not {type(encoded).__name__}")
    if not encoded.isascii():
        raise binascii.Error("expected base64 text, not other letters")
    return base64.b64decode("".join(encoded.split()), validate=True)


mlflow.models.set_model(ServedLocator())
