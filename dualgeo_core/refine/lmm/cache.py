"""Replies kept on disk, so that asking again costs nothing and gives the same."""

from dataclasses import asdict, dataclass
from pathlib import Path

from dualgeo_core.files import fingerprint, read_json, write_json


@dataclass(frozen=True)
class Reply:
    """What a model sent back to one question, and what it took."""

    model: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float


@dataclass(frozen=True)
class ReplyCache:
    """One JSON file per question in `folder`; the key covers image, prompt, model, server and sampling."""

    folder: Path

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`."""
        path = self._path(key)
        return Reply(**read_json(path)) if path.is_file() else None

    def put(self, key: str, reply: Reply) -> None:
        """Keeps a reply; a killed process leaves it whole or absent."""
        write_json(self._path(key), asdict(reply))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


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
    """The same key for the same question, on every machine."""
    return fingerprint("reply", jpeg_sha256, system, text, model, api_base, temperature, max_tokens, sample)
