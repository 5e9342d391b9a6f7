"""Replies kept on disk, so that asking again costs nothing and gives the same."""

from dataclasses import asdict, dataclass
from pathlib import Path

from dualgeo_core.base.files import fingerprint, read_json, write_json


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
    """One JSON file per question in `folder`; without a folder nothing is kept.

    The key covers image, prompt, model, server and sampling.
    """

    folder: Path | None

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`."""
        if self.folder is None or not (path := _path(self.folder, key)).is_file():
            return None
        return Reply(**read_json(path))

    def put(self, key: str, reply: Reply) -> None:
        """Keeps a reply; a killed process leaves it whole or absent."""
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
    """The same key for the same question, on every machine."""
    return fingerprint("reply", jpeg_sha256, system, text, model, api_base, temperature, max_tokens, sample)
