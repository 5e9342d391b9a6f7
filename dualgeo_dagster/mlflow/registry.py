"""The champions of a registered model: promotion, rollback, and the history of both."""

import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.mlflow.registered_model import BEST, CHALLENGER, CHAMPION, PROMOTION, RegisteredModel, fitting
from dualgeo_dagster.settings import current_user

HIDDEN = "mlflow.dualgeo."  # MLflow's pages do not show tags that begin with "mlflow."
TRAIL = "promotion."
UNFINISHED = f"{HIDDEN}unfinished"  # the tag with the last promotion, until its locator is in service
ROLLBACK = "rollback: "


@dataclass(frozen=True)
class Promotion:
    """One entry of the promotion history: new champion, replaced champion, time (UTC), user and reason."""

    version: str
    replaced: str | None
    when: str
    by: str
    reason: str

    @property
    def sentence(self) -> str:
        """The promotion in words."""
        place = f"replaced version {self.replaced}" if self.replaced else "was the first champion"
        when = datetime.fromisoformat(self.when)
        return f"Version {self.version} {place} on {when:%Y-%m-%d at %H:%M} UTC, by {self.by}. Reason: {self.reason}."


class Registry(RegisteredModel):
    """A registered model with its promotion history, which is kept in tags of the model."""

    def promote(self, version: str, *, reason: str) -> Promotion:
        """Makes `version` the champion and adds an entry to the promotion history.

        Raises InputError if the version is already the champion, or as `require`.
        """
        self.require(version)
        champion = self.version_of(CHAMPION)
        if champion == version:
            raise InputError(f"version {version} of {self.model} is already the champion")
        now = datetime.now(UTC)
        promotion = Promotion(
            version=version,
            replaced=champion,
            when=now.isoformat(timespec="seconds"),
            by=current_user(),
            reason=reason,
        )
        # The history entry is written first: a process killed between the two calls leaves an entry without effect,
        # but never a champion without an entry. The key is unique, so that promotions at the same time are all kept.
        key = f"{HIDDEN}{TRAIL}{now:%Y%m%dT%H%M%S.%f}.{uuid.uuid4().hex[:8]}"
        for tag in (key, UNFINISHED):
            self._client.set_registered_model_tag(self.model, tag, json.dumps(asdict(promotion)))
        self._make_champion(promotion)
        return promotion

    def finish_promotion(self) -> None:
        """Notes that the champion's locator is in service: a repeated rollback then goes back one more version."""
        if UNFINISHED in self._tags():
            self._client.delete_registered_model_tag(self.model, UNFINISHED)

    def _make_champion(self, promotion: Promotion) -> None:
        self._client.set_registered_model_alias(self.model, CHAMPION, promotion.version)
        self._describe(promotion)

    def mark_best(self, version: str) -> None:
        """Marks the champion with the best score so far, which later challengers are compared with."""
        self._client.set_registered_model_alias(self.model, BEST, version)

    def _describe(self, promotion: Promotion) -> None:
        """Writes a promotion as a sentence on the version's page, and all promotions on the model's page."""
        kept, _, _ = self._description_of(promotion.version).partition(PROMOTION)
        text = f"{kept}{PROMOTION}{promotion.sentence}"
        self._client.update_model_version(self.model, promotion.version, description=fitting(text))
        written: list[Promotion] = []
        while written != (trail := self.trail()):  # another promotion at the same time writes this page, too
            newest_first = "\n".join(f"- {entry.sentence}" for entry in reversed(trail))
            text = f"Champions, newest first:\n\n{newest_first}"
            self._client.update_registered_model(self.model, description=fitting(text))
            written = trail

    def rollback(self, *, reason: str) -> Promotion:
        """Restores the previous champion; a second call restores the one before it.

        A call after a rollback that failed before `finish_promotion` completes that rollback, and returns it. Raises
        InputError if there is no previous champion.
        """
        unfinished = self._unfinished_rollback()
        if unfinished is not None:
            self._make_champion(unfinished)
            return unfinished
        previous = self._previous_champion()
        if previous is None:
            raise InputError(
                f"{self.model}: champion {self.version_of(CHAMPION) or 'none'} has no predecessor, so there is nothing "
                "to roll back to; use `dualgeo promote` to choose a version"
            )
        return self.promote(previous, reason=f"{ROLLBACK}{reason}")

    def _unfinished_rollback(self) -> Promotion | None:
        noted = self._tags().get(UNFINISHED)
        if noted is None:
            return None
        last = Promotion(**json.loads(noted))
        concerns_champion = self.version_of(CHAMPION) in (last.version, last.replaced)
        return last if concerns_champion and last.reason.startswith(ROLLBACK) else None

    def _previous_champion(self) -> str | None:
        champion = self.version_of(CHAMPION)
        for promotion in reversed(self.trail()):
            forward = promotion.version == champion and not promotion.reason.startswith(ROLLBACK)
            if forward and promotion.replaced not in (None, champion):
                return promotion.replaced
        return None

    def rollback_of(self, version: str) -> Promotion | None:
        """The rollback that replaced this version, unless the version was promoted again since; None if none did."""
        last = next((entry for entry in reversed(self.trail()) if version in (entry.version, entry.replaced)), None)
        return last if last and last.replaced == version and last.reason.startswith(ROLLBACK) else None

    def trail(self) -> list[Promotion]:
        """All promotions, oldest first."""
        entries = {key.removeprefix(HIDDEN): entry for key, entry in self._tags().items()}  # some have no prefix
        return [Promotion(**json.loads(entries[key])) for key in sorted(entries) if key.startswith(TRAIL)]

    def _tags(self) -> dict[str, str]:
        """The tags of the registered model; none if there is no such model."""
        if not self._client.search_registered_models(filter_string=f"name = '{self.model}'"):
            return {}
        return dict(self._client.get_registered_model(self.model).tags)

    def prune(self, keep: int) -> list[str]:
        """Deletes old versions with their files, and returns their numbers.

        The newest `keep` versions, the champion, the challenger, the best champion so far and the version that a
        rollback restores are kept.
        """
        in_use = {*map(self.version_of, (CHAMPION, CHALLENGER, BEST)), self._previous_champion()}
        deleted = [version for version in self.versions()[keep:] if version not in in_use]
        for version in deleted:
            self._delete(version)
        return deleted
