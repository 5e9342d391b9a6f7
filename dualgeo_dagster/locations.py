"""One code location per profile. A workspace file names this module, with the profile as `attribute`."""

import os

import dagster as dg


def __getattr__(profile: str) -> dg.Definitions:
    """The definitions of a profile. One process can serve only one profile: the first one requested."""
    if profile.startswith("_"):
        raise AttributeError(profile)
    os.environ["DUALGEO_PROFILE"] = profile
    from dualgeo_dagster.definitions import defs

    return defs
