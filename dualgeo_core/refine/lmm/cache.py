"""Replies cached on disk: a repeated question costs nothing and has the same answer."""

from dataclasses import asdict, dataclass
from pathlib import Path

from dualgeo_core.base.files import fingerprint, read_json, write_json


@dataclass(frozen=True)
class Reply:
    """A model's reply to one question, with its tokens, cost and latency."""

    model: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float


@dataclass(frozen=True)
class ReplyCache:
    """One JSON file per question in `folder`; nothing is saved if `folder` is None.

    The key covers image, prompt, model, server and sampling settings.
    """

    folder: Path | None

    def get(self, key: str) -> Reply | None:
        """The reply saved under `key`, or None."""
        if self.folder is None or not (path := _path(self.folder, key)).is_file():
            return None
        return Reply(**read_json(path))

    def put(self, key: str, reply: Reply) -> None:
        """Saves a reply, atomically."""
        if self.folder is not None:
            write_json(_path(self.folder, key), asdict(reply))


def _path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.json"


def reply_key(
    *,
    jpeg_sha256: str,
    system: str,
    text: str,
    model: str,
    api_base: str | None,
    temperature: float,
    max_tokens: int,
    sample: int,
) -> str:
    """A digest of the question, the same on every machine."""
    return fingerprint("reply", jpeg_sha256, system, text, model, api_base, temperature, max_tokens, sample)
