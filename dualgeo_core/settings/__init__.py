"""Profiles, their default values, and the environment variables that select a profile.

Defaults are defined here only. They follow the paper (arXiv 2604.25533) unless the field's description states
otherwise. A profile, `profiles/<name>.yaml`, lists only the settings that differ from the defaults.
"""

from dualgeo_core.settings.base import Section
from dualgeo_core.settings.cluster import RaySettings
from dualgeo_core.settings.loading import (
    AnsweringSettings,
    Environment,
    PlacesSettings,
    Settings,
    checkpoint,
    faults,
    load_answering_settings,
    load_profile,
    load_settings,
)
from dualgeo_core.settings.photos import EarthPart, EarthSettings, IngestSettings, PhotoSettings, PhotoSource
from dualgeo_core.settings.places import PlaceSettings
from dualgeo_core.settings.profile import AnsweringProfile, PlacesProfile, Profile
from dualgeo_core.settings.refinement import (
    EvaluationSettings,
    LmmSettings,
    ProfileMethod,
    RefinementSettings,
    RefineMethod,
)
from dualgeo_core.settings.relighting import RelightingSettings
from dualgeo_core.settings.representation import (
    EncoderSettings,
    ModelSettings,
    Representation,
    SegmenterSettings,
    TrainingSettings,
)
from dualgeo_core.settings.retrieval import AUTO_INDEX, INDEX_TRAINING_PHOTOS, RetrievalSettings
from dualgeo_core.settings.serving import ServingSettings

__all__ = [
    "AUTO_INDEX",
    "INDEX_TRAINING_PHOTOS",
    "AnsweringProfile",
    "AnsweringSettings",
    "EarthPart",
    "EarthSettings",
    "EncoderSettings",
    "Environment",
    "EvaluationSettings",
    "IngestSettings",
    "LmmSettings",
    "ModelSettings",
    "PhotoSettings",
    "PhotoSource",
    "PlaceSettings",
    "PlacesProfile",
    "PlacesSettings",
    "Profile",
    "ProfileMethod",
    "RaySettings",
    "RefineMethod",
    "RefinementSettings",
    "RelightingSettings",
    "Representation",
    "RetrievalSettings",
    "Section",
    "SegmenterSettings",
    "ServingSettings",
    "Settings",
    "TrainingSettings",
    "checkpoint",
    "faults",
    "load_answering_settings",
    "load_profile",
    "load_settings",
]
