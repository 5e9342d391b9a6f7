"""The served model: each row of a request gets an answer or a status."""

import base64
import io
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from dualgeo_dagster.mlflow.serving import ServedLocator


def photo() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(buffer, format="JPEG")
    return buffer.getvalue()


@pytest.fixture
def served() -> ServedLocator:
    """The served model with a locator that answers every photo with its size."""
    model = ServedLocator()
    model._version = "7"
    model._locator = SimpleNamespace(
        locate_images=lambda names, images: [
            SimpleNamespace(as_json=lambda: {"photo": names[0], "status": "ok", "size": images[0].size})
        ]
    )
    return model


def statuses(served: ServedLocator, *rows: Any) -> list[str]:
    answers = served.predict(None, pd.DataFrame({"photo": pd.Series(rows, dtype=object)}))
    assert [answer["photo"] for answer in answers] == [str(number) for number in range(len(rows))]
    assert {answer["model_version"] for answer in answers} == {"7"}
    return [answer["status"] for answer in answers]


@pytest.mark.parametrize("row", ["é", None, float("nan"), 5, 1.5, True, [1, 2], {"a": 1}, "a", "a photo!", "", "bm8="])
def test_a_bad_row_gets_a_status_and_the_others_an_answer(served: ServedLocator, row: Any) -> None:
    good = base64.b64encode(photo()).decode()
    first, bad, last = statuses(served, good, row, good)
    assert (first, last) == ("ok", "ok")
    assert bad.startswith("unreadable: ")
    assert "\n" not in bad


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_base64_with_line_breaks_is_accepted(served: ServedLocator, line_break: str) -> None:
    lines = base64.encodebytes(photo()).decode().replace("\n", line_break)
    assert lines.count(line_break) > 1
    assert statuses(served, lines) == ["ok"]
