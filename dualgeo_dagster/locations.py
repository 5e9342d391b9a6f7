"""One code location per profile. A workspace file names this module, with the profile as `attribute`."""

import os
import sys

import dagster as dg

from dualgeo_core.settings import load_settings


def __getattr__(profile: str) -> dg.Definitions:
    """The definitions of a profile. Raises AttributeError if this process has loaded those of another profile."""
    if profile.startswith("_"):
        raise AttributeError(profile)
    name = load_settings(profile).profile.name
    loaded = sys.modules.get("dualgeo_dagster.profile")
    if loaded is not None and name != loaded.NAME:
        raise AttributeError(f"this process has loaded the profile {loaded.NAME}: load {name} in another process")
    os.environ["DUALGEO_PROFILE"] = profile
    from dualgeo_dagster.definitions import defs

    return defs
