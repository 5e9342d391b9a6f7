"""Per-photo results in shards: what a build reuses of a killed one."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from dualgeo_core.base import shards
from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import write_json
from dualgeo_core.base.shards import PLAN, ShardKey, ShardTask, build_shards, write_shard


@dataclass(frozen=True)
class Source:
    """Two shards of two photos each; `contents` tells what each shard is made from."""

    contents: tuple[str, str] = ("first", "second")

    @property
    def shard_keys(self) -> tuple[ShardKey, ...]:
        return ShardKey("a", self.contents[0], range(2)), ShardKey("b", self.contents[1], range(2, 4))


def build(
    folder: Path, recipe: str, source: Source, killed_at: str | None = None, shard_recipe: str = "encoder"
) -> dict[str, int]:
    """Each file tells its recipe and what it is made from; the build dies as it begins the shard `killed_at`."""

    def write(key: ShardKey, path: Path, advance: object) -> None:
        if key.name == killed_at:
            raise KeyboardInterrupt
        path.write_text(f"{recipe} of {key.fingerprint}")

    artifact = Artifact(folder, step="made", recipe=recipe, inputs={"photos": " and ".join(source.contents)})
    return build_shards(artifact, source=source, shard_recipe=shard_recipe, suffix="txt", write=write, facts={})


def texts(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("*.txt"))]


def test_a_killed_build_is_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        build(folder, "A", Source(), killed_at="b")
    assert build(folder, "A", Source()) == {"computed": 2, "taken_over": 2}
    assert texts(folder) == ["A of first", "A of second"]


@pytest.mark.parametrize(
    ("recipe", "source"),
    [("B", Source()), ("A", Source(("changed", "second")))],
    ids=["another recipe", "other photos"],
)
def test_shards_of_a_killed_build_with_other_inputs_are_not_reused(tmp_path: Path, recipe: str, source: Source) -> None:
    folder = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        build(folder, "A", Source(), killed_at="b")
    assert build(folder, recipe, source) == {"computed": 4, "taken_over": 0}
    assert texts(folder) == [f"{recipe} of {content}" for content in source.contents]


def test_a_finished_folder_of_another_recipe_is_not_reused(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    build(folder, "A", Source())
    assert build(folder, "B", Source()) == {"computed": 4, "taken_over": 0}
    assert texts(folder) == ["B of first", "B of second"]


def test_shards_of_another_encoder_are_not_reused(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    build(folder, "A", Source(), shard_recipe="encoder")
    grown = Source(("first", "third"))
    assert build(folder, "A", grown, shard_recipe="another encoder") == {"computed": 4, "taken_over": 0}


def test_a_build_that_is_stopped_while_it_is_put_in_place_keeps_all_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"

    def stop(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shards, "replace_folder", stop)
        with pytest.raises(KeyboardInterrupt):
            build(folder, "A", Source())
    assert build(folder, "A", Source()) == {"computed": 0, "taken_over": 4}
    assert texts(folder) == ["A of first", "A of second"]


class Heard(logging.Handler):
    """Sets `event` when a message contains `words`."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.event = words, Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.event.set()


def test_a_second_builder_of_a_folder_waits_and_finds_it_done(tmp_path: Path) -> None:
    begun, waiting, writes = Event(), Heard("another process builds"), []

    def write(key: ShardKey, path: Path, advance: object) -> None:
        begun.set()
        assert waiting.event.wait(60)
        path.write_text(key.fingerprint)
        writes.append(key.name)

    def run() -> dict[str, int]:
        artifact = Artifact(tmp_path / "made", step="made", recipe="A", inputs={})
        return build_shards(artifact, source=Source(), shard_recipe="", suffix="txt", write=write, facts={})

    logger = logging.getLogger("dualgeo_core")
    logger.addHandler(waiting)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(run)
            assert begun.wait(60)
            second = pool.submit(run)
            assert first.result() == {"computed": 4, "taken_over": 0}
            assert second.result() == {"computed": 0, "taken_over": 4}
    finally:
        logger.removeHandler(waiting)
    assert writes == ["a", "b"]


def test_a_worker_of_an_older_build_leaves_the_newer_one_alone(tmp_path: Path) -> None:
    key = ShardKey("a", "first", range(2))

    def write(key: ShardKey, path: Path, advance: object) -> None:
        write_json(tmp_path / PLAN, {"a.txt": "newer"})
        path.write_text("older")

    write_json(tmp_path / PLAN, {"a.txt": "older"})
    with pytest.raises(InputError, match="is now built from other inputs"):
        write_shard(ShardTask(key, tmp_path / "a.txt", "older"), write, lambda rows: None)
    assert not (tmp_path / "a.txt").exists()
