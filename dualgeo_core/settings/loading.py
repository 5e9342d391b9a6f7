"""Reads a profile from its file, and the environment variables that select a profile and its home."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line
from dualgeo_core.settings.profile import AnsweringProfile, PlacesProfile, Profile, profile_name
from dualgeo_core.settings.representation import TrainingSettings

# pydantic's messages that do not say how to fix the error.
PLAINER = {"extra_forbidden": "unknown setting; correct its name or remove it", "missing": "missing; add it"}

AnyProfile = TypeVar("AnyProfile", bound=AnsweringProfile)
# Other programs store absolute addresses, and a home has to have the same ones by whatever link it is reached.
Home = Annotated[Path, AfterValidator(lambda path: path.resolve())]


class Environment(BaseSettings):
    """The environment variables DUALGEO_PROFILE, DUALGEO_HOME and DUALGEO_SERVE_TOKEN, and Ray's RAY_ADDRESS.

    A process that starts a training tells it its own id in DUALGEO_TRAINING_PARENT.
    """

    model_config = SettingsConfigDict(env_prefix="DUALGEO_", extra="ignore", validate_default=True)

    profile: str = Field("demo", description="Name of a profile under profiles/, or path of a YAML file.")
    home: Home = Field(
        Path(__file__).parent.parent.parent, description="Folder that contains profiles/, data/ and artifacts/."
    )
    serve_token: str | None = Field(None, min_length=16, description="API token of `dualgeo serve`.")
    training_parent: int | None = Field(None, description="Process at whose death a training process stops.")
    ray_address: str | None = Field(
        None, validation_alias="RAY_ADDRESS", description="HOST:PORT of a Ray cluster's head; unset: this machine."
    )


class AnsweringSettings(BaseModel):
    """A profile with which photos are located, and the folders of its data and artifacts."""

    profile: AnsweringProfile
    home: Home

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts" / self.profile.name

    @property
    def lmm_replies(self) -> Path:
        """The stored replies of the multimodal model; each question is sent once."""
        return self.artifacts / "lmm_replies"


class PlacesSettings(AnsweringSettings):
    """A profile without gallery and training."""

    profile: PlacesProfile

    @property
    def place_vectors(self) -> Path:
        """The folder with the location encoder's vectors of all photo places."""
        return self.artifacts / "place_vectors"

    @property
    def calibrated_refiner(self) -> Path:
        """The folder with the refiner that was calibrated on photos with known places; absent until then."""
        return self.artifacts / "refiner"


class Settings(AnsweringSettings):
    """A profile with a gallery."""

    profile: Profile

    @property
    def locator(self) -> Path:
        """The folder with everything needed to locate photos."""
        return self.artifacts / "locator"

    @property
    def champion(self) -> Path:
        """The folder with the locator of the champion; absent until a version of the model was promoted."""
        return self.artifacts / "champion"

    def version(self, number: str) -> Path:
        """The folder with the locator of a registered version; absent until a command asked for that version."""
        return self.artifacts / "versions" / number

    @property
    def locator_in_service(self) -> Path:
        """The locator folder that answers: the champion's, otherwise the one of the last run."""
        return self.champion if self.champion.is_dir() else self.locator

    def with_training(self, overrides: dict[str, Any]) -> "Settings":
        """A copy with other training settings.

        Raises InputError if a name is unknown or a value is out of range; the message names each one.
        """
        training = {**self.profile.training.model_dump(), **overrides}
        try:
            profile = self.profile.model_copy(update={"training": TrainingSettings(**training)})
        except ValidationError as error:
            raise InputError(f"training settings of this run: {faults(error)}") from None
        return Settings(profile=profile, home=self.home)


def load_profile(path: Path) -> Profile | PlacesProfile:
    """The profile in a YAML file. One with the section `places` has neither gallery nor training.

    Raises InputError if the file is missing or invalid, or names a file that is missing; the message names the file and
    every invalid key.
    """
    content = _read_yaml(path)
    kind = PlacesProfile if "places" in content else Profile
    try:
        profile = kind.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        raise InputError(f"{path}: {faults(error)}") from None
    _require_own_name(profile, path)
    _require_packages(profile, path)
    return _with_found_files(profile, path)


def load_settings(profile: str | None = None, home: Path | None = None) -> Settings:
    """The settings of a profile with a gallery, by name or path. Missing arguments are read from the environment.

    Raises InputError if the profile is invalid or has no gallery.
    """
    settings = load_answering_settings(profile, home)
    if not isinstance(settings, Settings):
        raise InputError(
            f"profile {settings.profile.name} has no gallery and no training, so there is nothing to run; "
            "use it with `dualgeo locate` and `dualgeo serve`"
        )
    return settings


def load_answering_settings(profile: str | None = None, home: Path | None = None) -> Settings | PlacesSettings:
    """The settings of any profile, given by name or path. Missing arguments are read from the environment."""
    environment = Environment()
    home = home or environment.home
    name = environment.profile if profile is None else profile
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        try:
            path = home / "profiles" / f"{profile_name(name)}.yaml"
        except ValueError as error:
            raise InputError(str(error)) from None
    loaded = load_profile(path)
    if isinstance(loaded, PlacesProfile):
        return PlacesSettings(profile=loaded, home=home)
    return Settings(profile=loaded, home=home)


def checkpoint(name: str) -> str:
    """The path of a checkpoint folder, relative to the working directory or DUALGEO_HOME; otherwise the hub name."""
    for folder in (Path(name), Environment().home / name):
        if folder.is_dir():
            return str(folder)
    return name


def faults(error: ValidationError) -> str:
    """One line with every invalid key and its error."""
    return "; ".join(_fault(fault) for fault in error.errors())


def _fault(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    text = PLAINER.get(fault["type"], fault["msg"].removeprefix("Value error, "))
    return " ".join(f"{key}: {text}".removeprefix(": ").split())


class _Loader(yaml.SafeLoader):
    """YAML in which a key occurs once per mapping. PyYAML would keep the last value and drop the others."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} occurs twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"profile {path} is not a file; name a YAML file")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml") if file.is_file()))
        raise InputError(f"profile {path} does not exist; available profiles: {names or 'none'}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({one_line(error)}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); name a readable YAML file") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply; write sections of settings") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict | None):
        raise InputError(f"{path} holds no settings but a {type(content).__name__}; write sections such as photos")
    return content or {}


def _require_own_name(profile: AnsweringProfile, path: Path) -> None:
    """Raises InputError if another profile next to `path` has the same name, and so the same artifacts and runs."""
    for other in (*path.parent.glob("*.yaml"), *path.parent.glob("*.yml")):
        if other.name != path.name and other.stem.casefold() == profile.name.casefold():
            raise InputError(f"{path}: the name {profile.name} is that of {other}, up to case; choose another name")


def _with_found_files(profile: AnyProfile, path: Path) -> AnyProfile:
    """The profile with its files relative to the working directory or DUALGEO_HOME, as `checkpoint` finds folders.

    Raises InputError if a file is missing.
    """
    changed = {}
    for name, key in (("refinement", "params_file"), ("lmm", "answers_file")):
        section = getattr(profile, name)
        file = getattr(section, key)
        if file is None:
            continue
        found = next((place for place in (Path(file), Environment().home / file) if place.is_file()), None)
        if found is None:
            raise InputError(f"{path}: {name}.{key} is {file}, which is not a file; correct the path")
        changed[name] = section.model_copy(update={key: str(found)})
    return profile.model_copy(update=changed)


def _require_packages(profile: AnsweringProfile, path: Path) -> None:
    """Raises InputError if a package that the profile names is missing."""
    if isinstance(profile, Profile) and profile.engine == "ray" and find_spec("ray") is None:
        raise InputError(
            f"{path}: engine is ray, but that package is not installed; run `pip install 'dualgeo[cluster]'`, "
            "or set engine to local"
        )
    if isinstance(profile, Profile) and profile.model.gps_weights == "geoclip" and find_spec("geoclip") is None:
        raise InputError(
            f"{path}: model.gps_weights is geoclip, but that package is not installed; run "
            "`pip install --no-deps geoclip`, or set model.gps_weights to random"
        )
