"""Replies cached on disk: a repeated question costs nothing and has the same answer."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dualgeo_core.base.files import fingerprint, write_json


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
    """One JSON file per question in `folder`, with a digest of the reply; without a folder nothing is kept.

    The key covers image, prompt, model, server and sampling settings.
    """

    folder: Path | None

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`; None if there is none, or a damaged one: the question is then asked again."""
        return None if self.folder is None else _read_reply(_path(self.folder, key))

    def put(self, key: str, reply: Reply) -> None:
        """Saves a reply, atomically."""
        if self.folder is not None:
            content = asdict(reply)
            write_json(_path(self.folder, key), {"reply": content, "digest": fingerprint(content)})


def damaged_replies(folder: Path) -> list[Path]:
    """The files of a reply cache that do not hold what was kept."""
    return [path for path in sorted(folder.glob("*/*.json")) if _read_reply(path) is None]


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


def _read_reply(path: Path) -> Reply | None:
    try:
        kept = json.loads(path.read_bytes())
        return Reply(**kept["reply"]) if fingerprint(kept["reply"]) == kept["digest"] else None
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.json"
