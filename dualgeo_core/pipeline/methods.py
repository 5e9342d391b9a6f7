"""The methods that one evaluation compares, and the main method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dualgeo_core.settings import Profile, RefineMethod

LEAKING = " with leakage"


@dataclass(frozen=True)
class Method:
    """One row of the comparison: representation, refinement method, with or without the LMM's answers."""

    representation: str
    refinement: RefineMethod
    answers: bool = False

    @property
    def name(self) -> str:
        if self.refinement == "album":
            return f"{self.representation}, all photos of an album together{' and answers' if self.answers else ''}"
        return f"{self.representation}, {self.refinement}{' and answers' if self.answers else ''}"


def main_method(profile: Profile) -> Method:
    """The method that gives the answers."""
    return Method(profile.model.main, profile.refinement.method, answers=profile.lmm.enabled)


def compared_methods(profile: Profile) -> list[Method]:
    """Every representation with its nearest neighbour, every refinement of the main one, albums, and leakage."""
    main = profile.model.main
    methods = [Method(representation, "rank1") for representation in profile.model.variants]
    methods += [Method(main, "dbscan"), Method(main, "hdbscan"), Method(main, "posterior"), main_method(profile)]
    methods.append(Method(main, "album", answers=profile.lmm.enabled))
    return [*dict.fromkeys(methods), Method(f"{main}{LEAKING}", "posterior")]


def without_equal_leakage(by_method: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The scores by method, without a method with leakage that scores exactly as the one without."""
    return {
        name: score
        for name, score in by_method.items()
        if LEAKING not in name or score != by_method.get(name.replace(LEAKING, ""))
    }
