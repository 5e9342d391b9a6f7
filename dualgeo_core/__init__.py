"""DualGeo's library: photos in, places out. It knows no orchestrator, tracker or data versioner.

`from dualgeo_core import Locator` is the documented way to locate photos from Python.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualgeo_core.answering.answers import Answer, Candidate
    from dualgeo_core.answering.locator import Locator

__all__ = ["Answer", "Candidate", "Locator"]


def __getattr__(name: str) -> Any:
    """Imports the API at first use: whoever imports a module of this package does not wait for torch."""
    if name == "Locator":
        from dualgeo_core.answering.locator import Locator

        return Locator
    if name in ("Answer", "Candidate"):
        from dualgeo_core.answering import answers

        return getattr(answers, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
