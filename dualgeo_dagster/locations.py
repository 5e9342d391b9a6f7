"""One code location per profile: a workspace file names this module, and the profile as its `attribute`."""

import os

import dagster as dg


def __getattr__(profile: str) -> dg.Definitions:
    """The definitions of a profile. A process serves the one that it is asked for first."""
    if profile.startswith("_"):
        raise AttributeError(profile)
    os.environ["DUALGEO_PROFILE"] = profile
    from dualgeo_dagster.definitions import defs

    return defs
