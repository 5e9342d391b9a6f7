"""The rows of a comparison: which methods are shown."""

from dualgeo_core.pipeline.methods import without_equal_leakage

MAIN, LEAKING = "joint, posterior", "joint with leakage, posterior"


def test_the_row_with_leakage_is_shown_only_where_it_differs() -> None:
    score = {"acc_25km": 41.3, "coverage_90": 87.0}
    assert list(without_equal_leakage({MAIN: score, LEAKING: {**score}})) == [MAIN]
    assert list(without_equal_leakage({MAIN: score, LEAKING: {**score, "acc_25km": 60.0}})) == [MAIN, LEAKING]
