"""Profiles, with errors in one line; atomic files."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from dualgeo_core.base.artifacts import Artifact, new_artifact, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import (
    atomic_file,
    atomic_folder,
    fingerprint,
    read_json,
    replace_folder,
    write_json,
)
from dualgeo_core.settings import Environment, LmmSettings, RetrievalSettings, load_profile, load_settings
from dualgeo_dagster.settings import orchestration_of


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_profiles_load(path: Path) -> None:
    assert load_profile(path).name == path.stem


PHOTOS = "photos: {gallery: {photo_set: a}, benchmarks: {b: {photo_set: b}}}\n"


def benchmark(name: str) -> str:
    return f"photos: {{gallery: {{photo_set: a}}, benchmarks: {{{name}: {{photo_set: b}}}}}}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        # the file
        ("", "photos: missing; add it"),
        ("- photos", "holds no settings but a list"),
        ("photos", "holds no settings but a str"),
        ("photos: [", "is not valid YAML"),
        ("photos: \t\x07", "is not valid YAML"),
        ("[" * 5000, "is nested too deeply"),
        (PHOTOS + "1: 2", "1: Keys should be strings"),
        (PHOTOS + "training: {1: 2}", "training.1: Keys should be strings"),
        (PHOTOS + "training: []", "training: Input should be a valid dictionary"),
        (PHOTOS + "traning: {}", "traning: unknown setting; correct its name or remove it"),
        (PHOTOS + '"a\\nb": 1', "a b: unknown setting"),
        (PHOTOS + "training: {epochs: 2}\ntraining: {seed: 1}", "the key training occurs twice"),
        (PHOTOS + "training: {epochs: 2, epochs: 3}", "the key epochs occurs twice"),
        # names and folders
        (PHOTOS + "name: 2024-01-01", "name: Input should be a valid string"),
        (PHOTOS + f"name: {'a' * 101}", "name: 'aaaa"),
        ("photos: {gallery: {}, benchmarks: {b: {photo_set: b}}}", "photos.gallery.photo_set: missing; add it"),
        ("photos: {gallery: {photo_set: a}, benchmarks: {}}", "photos: benchmarks is empty"),
        (benchmark("a...b"), "photos.benchmarks.a...b: 'a...b' is not a benchmark's name; use "),
        (benchmark("day+night"), "'day+night' is not a benchmark's name; use "),
        (benchmark('"it\'s"'), "is not a benchmark's name; use "),
        (benchmark("../x"), "'../x' is not a benchmark's name; use "),
        (benchmark("''"), "'' is not a benchmark's name; use "),
        (benchmark("-b"), "'-b' is not a benchmark's name; use "),
        (benchmark("nächte"), "'nächte' is not a benchmark's name; use "),
        (benchmark('"b\\n"'), "is not a benchmark's name; use "),
        (benchmark("b" * 101), "is not a benchmark's name; use at most 100"),
        (benchmark("2024"), "photos.benchmarks.2024: Input should be a valid string"),
        (benchmark("Gallery"), "the name Gallery is reserved"),
        (
            "photos: {gallery: {photo_set: a}, benchmarks: {b: {photo_set: b}, B: {photo_set: c}}}",
            "photos: benchmarks b and B differ only in case",
        ),
        (
            "photos: {gallery: {photo_set: a}, benchmarks: {b: {photo_set: a, part: queries}}}",
            "photos: benchmarks.b shares photographers with the gallery",
        ),
        *(
            (
                f"photos: {{gallery: {{photo_set: '{folder}'}}, benchmarks: {{b: {{photo_set: b}}}}}}",
                "under data/; name",
            )
            for folder in ("", ".", "..", "../a", "/a", "./a", "a/", "a//b", "a/../b")
        ),
        ('photos: {gallery: {photo_set: "a\\0"}, benchmarks: {b: {photo_set: b}}}', "under data/; name"),
        *(
            (
                f"photos: {{gallery: {{photo_set: a, query_share: {share}}}, benchmarks: {{b: {{photo_set: b}}}}}}",
                "photos.gallery.query_share: Input should be",
            )
            for share in (0, 1, -0.1, ".nan")
        ),
        # device
        (PHOTOS + "device: cudaa", "device: 'cudaa' is not valid; use cpu"),
        (PHOTOS + "device: cuda:-1", "device: 'cuda:-1' is not valid; use cpu"),
        (PHOTOS + "device: cpu:0", "device: 'cpu:0' is not valid; use cpu"),
        (PHOTOS + "device: ''", "device: '' is not valid; use cpu"),
        (PHOTOS + "threads: 0", "threads: Input should be greater than 0"),
        # segmenter and encoder
        (PHOTOS + "segmenter: {image_size: -1}", "segmenter.image_size: Input should be greater than 0"),
        (PHOTOS + "segmenter: {codebook_seed: -1}", "segmenter.codebook_seed: Input should be"),
        (PHOTOS + "segmenter: {codebook_seed: 4294967296}", "segmenter.codebook_seed: Input should be"),
        (PHOTOS + "segmenter: {name: ''}", "segmenter.name: String should have at least 1 character"),
        (PHOTOS + "encoder: {batch_size: 0}", "encoder.batch_size: Input should be greater than 0"),
        (PHOTOS + "encoder: {name: efficientnet-lite0, image_size: 100}", "set a multiple of 32"),
        (PHOTOS + "encoder: {name: efficientnet-lite0, image_size: 64}", "or a smaller encoder.token_grid"),
        # model
        (PHOTOS + "model: {heads: 5}", "model: width 512 is not a multiple of heads 5; change one of them"),
        (PHOTOS + "model: {width: 4, heads: 4}", "model.width: Input should be greater than or equal to 8"),
        (PHOTOS + "model: {width: -8}", "model.width: Input should be"),
        (PHOTOS + "model: {dropout: 1}", "model.dropout: Input should be less than 1"),
        (PHOTOS + "model: {dropout: .nan}", "model.dropout: Input should be a finite number"),
        (PHOTOS + "model: {fourier_sigmas: []}", "model.fourier_sigmas: Tuple should have at least 1 item"),
        (PHOTOS + "model: {fourier_sigmas: [1, .nan]}", "model.fourier_sigmas.1: Input should be"),
        (PHOTOS + "model: {fourier_sigmas: [0]}", "model.fourier_sigmas.0: Input should be greater than 0"),
        (PHOTOS + "training: {relit_share: 0.5}", "relit_share is 0.5, but relighting.copies is 0; set copies to 1"),
        (PHOTOS + "model: {variants: []}", "model.main is joint, which is not in model.variants"),
        (PHOTOS + "model: {variants: [encoder]}", "model.main is joint, which is not in model.variants"),
        (PHOTOS + "model: {variants: [joint, joint]}", "variants names a representation twice"),
        (PHOTOS + "model: {gps_weights: geoclip, width: 128}", "model: gps_weights geoclip needs width 512"),
        (PHOTOS + "model: {gps_weights: geoclip}", "pip install --no-deps geoclip"),
        # training
        (PHOTOS + "training: {epochs: 0}", "training.epochs: Input should be greater than 0"),
        *(
            (PHOTOS + f"training: {{learning_rate: {rate}}}", "training.learning_rate: Input should be")
            for rate in (".inf", "-.inf", ".nan", 0, -1)
        ),
        (PHOTOS + "training: {soft_target_km: .inf}", "training.soft_target_km: Input should be a finite number"),
        (PHOTOS + "training: {weight_decay: .nan}", "training.weight_decay: Input should be a finite number"),
        (PHOTOS + "training: {batch_size: 1}", "training.batch_size: Input should be greater than or equal to 2"),
        (PHOTOS + "training: {batch_size: 4, processes: 8}", "training: batch_size 4 is below processes 8; raise"),
        (
            PHOTOS + "engine: ray\nray: {training_nodes: 2}\ntraining: {processes: 3}",
            "training.processes 3 is not a multiple of ray.training_nodes 2; change one of them",
        ),
        (PHOTOS + "training: {gps_queue: -1}", "training.gps_queue: Input should be"),
        (PHOTOS + "training: {validation_share: 0}", "training.validation_share: Input should be greater than 0"),
        (PHOTOS + "training: {validation_share: 1}", "training.validation_share: Input should be less than 1"),
        (PHOTOS + "training: {validation_seed: -1}", "training.validation_seed: Input should be"),
        # retrieval
        (PHOTOS + "retrieval: {candidates: 0}", "retrieval.candidates: Input should be greater than 0"),
        (PHOTOS + "retrieval: {near_duplicate_similarity: .nan}", "retrieval.near_duplicate_similarity: Input should"),
        *(
            (PHOTOS + f"retrieval: {{index: '{index}'}}", "retrieval.index: '")
            for index in (
                *("Flt", "flat", "", " Flat", "IVF,Flat", "IVF0,Flat", "IVF-4,Flat", "IVF16", "IVF16,Flat,", "SQ3"),
                *("PQ8", "NSG32,Flat", "IVF16,RQ2x8", "Flat,RFlat", "IDMap,Flat"),
                *("HNSW0", "HNSW1"),  # FAISS ends the process
            )
        ),
        (PHOTOS + "retrieval: {index: 'IVF262145,Flat'}", "has more lists than the 262144 photos it is trained on"),
        # refinement and the multimodal model
        (PHOTOS + "refinement: {cluster_radius_km: .inf}", "refinement.cluster_radius_km: Input should be"),
        (PHOTOS + "refinement: {max_risk: 0.1, method: rank1}", "refinement: max_risk needs method posterior"),
        (
            PHOTOS + "refinement: {params_file: nosuch.json}",
            "refinement.params_file is nosuch.json, which is not a file",
        ),
        (PHOTOS + "refinement: {params_file: .}", "refinement.params_file is ., which is not a file"),
        (PHOTOS + "lmm: {answers_file: nosuch.csv}", "lmm.answers_file is nosuch.csv, which is not a file; correct"),
        (PHOTOS + "lmm: {model: ''}", "lmm.model: String should have at least 1 character"),
        (PHOTOS + "lmm: {fallbacks: ['']}", "lmm.fallbacks.0: String should have at least 1 character"),
        (PHOTOS + "lmm: {api_base: 127.0.0.1:80}", "lmm.api_base: '127.0.0.1:80' is not valid; use one such as http"),
        (PHOTOS + "lmm: {timeout_s: .inf}", "lmm.timeout_s: Input should be a finite number"),
        (PHOTOS + "lmm: {max_cost_usd: .nan}", "lmm.max_cost_usd: Input should be a finite number"),
        (PHOTOS + "lmm: {retries: -1}", "lmm.retries: Input should be"),
        (PHOTOS + "evaluation: {seed: -1}", "evaluation.seed: Input should be"),
        (PHOTOS + "orchestration: [x]", "orchestration: Input should be a valid dictionary"),
    ],
)
def test_faulty_profile_is_named_with_its_key(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_profile(path)
    assert str(path) in str(error.value)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_profile_is_one_line(tmp_path: Path) -> None:
    folder, latin, fifo = tmp_path / "folder.yaml", tmp_path / "latin.yaml", tmp_path / "fifo.yaml"
    folder.mkdir()
    latin.write_bytes("name: Zürich".encode("latin-1"))
    os.mkfifo(fifo)
    for path, fault in ((folder, "is not a file"), (latin, "is not UTF-8"), (fifo, "is not a file")):
        with pytest.raises(InputError, match=f"{path}.* {fault}[^\n]*$"):
            load_profile(path)
    with pytest.raises(InputError, match=r"available profiles: latin$"):
        load_profile(tmp_path / "nosuch.yaml")


@pytest.mark.parametrize(("file", "name"), [("Tiny.yaml", "Tiny"), ("other.yaml", "tiny"), ("tiny.yml", "tiny")])
def test_two_profiles_of_one_folder_have_different_names_whatever_their_case(
    tmp_path: Path, file: str, name: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(PHOTOS)
    (tmp_path / file).write_text(f"name: {name}\n{PHOTOS}")
    with pytest.raises(InputError, match=f"the name {name} is that of .*tiny.yaml"):
        load_profile(tmp_path / file)
    (tmp_path / file).unlink()
    assert load_profile(tmp_path / "tiny.yaml").name == "tiny"


def test_files_that_a_profile_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("id")
    (tmp_path / "mine.yaml").write_text(f"{PHOTOS}lmm: {{answers_file: {tmp_path / 'answers.csv'}}}")
    assert load_profile(tmp_path / "mine.yaml").lmm.enabled


def test_files_that_a_profile_names_are_found_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path))
    for name in ("refiner.json", "answers.csv"):
        (tmp_path / name).touch()
    (tmp_path / "mine.yaml").write_text(
        f"{PHOTOS}refinement: {{params_file: refiner.json}}\nlmm: {{answers_file: answers.csv}}"
    )
    profile = load_profile(tmp_path / "mine.yaml")
    assert profile.refinement.params_file == str(tmp_path / "refiner.json")
    assert profile.lmm.answers_file == str(tmp_path / "answers.csv")


@pytest.mark.parametrize(
    ("index", "photos"),
    [
        ("Flat", 1),
        ("HNSW32", 1),
        ("IVF64,Flat", 64),
        ("IVF1024_HNSW32,SQ8", 1024),
        ("IVF4,PQ8", 256),
        ("HNSW8_PQ4", 256),
    ],
)
def test_an_index_needs_enough_photos(index: str, photos: int) -> None:
    settings = RetrievalSettings(index=index)
    settings.require_enough_photos(photos)
    with pytest.raises(InputError, match=f"retrieval.index {index} needs {photos} gallery photos or more, and .* use"):
        settings.require_enough_photos(photos - 1)


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        *(
            ({"automation": {"retraining_cron": cron}}, "automation.retraining_cron: ")
            for cron in ("every monday", "", "0 3 * *", "* * * * * *", "60 * * * *", "0 0 30 2 *", "0 0 31 4 *")
        ),
        *(
            ({"owners": [owner]}, f"owners.0: '{owner}' is not an owner; use")
            for owner in ("Jane Doe", "team:", "a@b", "")
        ),
        ({"owners": ["team:a", "b"]}, "owners.1: 'b' is not an owner"),
        ({"owners": "team:a"}, "owners: Input should be a valid tuple"),
        ({"automation": {"rebuild": "maybe"}}, "automation.rebuild: Input should be a valid boolean"),
        ({"promotion": {"metric": "acc_3km"}}, "promotion.metric: Input should be"),
        ({"promotion": {"benchmark": "c"}}, "orchestration.promotion.benchmark is c, which is not in"),
        ({"owner": []}, "owner: unknown setting"),
        ({1: 2}, "orchestration.1"),
    ],
)
def test_faulty_orchestration_is_named_with_its_key(tmp_path: Path, section: dict, fault: str) -> None:
    (tmp_path / "mine.yaml").write_text(PHOTOS + yaml.safe_dump({"orchestration": section}))
    with pytest.raises(InputError) as error:
        orchestration_of(load_profile(tmp_path / "mine.yaml"))
    assert "mine" in str(error.value)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_owners_and_times_that_dagster_accepts_are_accepted(tmp_path: Path) -> None:
    section = {"owners": ["jane@example.org", "team:geo"], "automation": {"retraining_cron": "30 4 1 * *"}}
    (tmp_path / "mine.yaml").write_text(PHOTOS + yaml.safe_dump({"orchestration": section}))
    assert orchestration_of(load_profile(tmp_path / "mine.yaml")).owners == ("jane@example.org", "team:geo")


def test_settings_load_without_slow_libraries() -> None:
    slow = ("torch", "faiss", "dagster", "pandas", "transformers", "mlflow")
    code = (
        "import sys, dualgeo_dagster.settings as s; from dualgeo_core.settings import load_settings\n"
        f"s.orchestration_of(load_settings('paper').profile); print([m for m in {slow} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_profile_tells_which_there_are() -> None:
    with pytest.raises(InputError, match=r"available profiles: .*demo"):
        load_settings("nosuch", home=ROOT)


@pytest.mark.parametrize("name", ["../../x", "", "my-photos"])
def test_a_name_that_cannot_be_a_namespace_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "home" / "profiles").mkdir(parents=True)
    for path in (tmp_path / "x.yaml", tmp_path / "home" / "profiles" / "my-photos.yaml"):
        path.write_text(PHOTOS)
    with pytest.raises(InputError, match=f"'{name}' is not a profile's name"):
        load_settings(name, home=tmp_path / "home")
    monkeypatch.setenv("DUALGEO_PROFILE", name)
    with pytest.raises(InputError, match=f"'{name}' is not a profile's name"):
        load_settings(home=tmp_path / "home")
    given = tmp_path / "given.yaml"
    given.write_text(f"name: '{name}'\n{PHOTOS}")
    with pytest.raises(InputError, match=r"given.yaml: name: "):
        load_settings(str(given), home=tmp_path / "home")


def test_environment_chooses_profile_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.yaml").write_text(PHOTOS)
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path))
    monkeypatch.setenv("DUALGEO_PROFILE", "mine")
    assert load_settings().artifacts == tmp_path / "artifacts" / "mine"


@pytest.mark.parametrize("home", ["home", "link"])
def test_a_home_has_one_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    (tmp_path / "home" / "profiles").mkdir(parents=True)
    (tmp_path / "home" / "profiles" / "mine.yaml").write_text(PHOTOS)
    (tmp_path / "link").symlink_to("home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALGEO_HOME", home)
    assert Environment().home == tmp_path / "home"
    assert load_settings("mine").home == load_settings("mine", home=Path(home)).home == tmp_path / "home"


def test_atomic_file_keeps_the_old_content_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_json(path, {"a": 1})

    def write_and_fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]


def killed_while_writing(path: Path) -> None:
    """A process that is killed while it writes `path`."""
    code = (
        "import os, signal, sys; from pathlib import Path; from dualgeo_core.base.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)


def test_what_a_killed_writer_left_is_removed_by_the_next_write_and_a_living_one_is_let_be(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "a.json")
    [left] = tmp_path.iterdir()
    assert left.name != "a.json"
    living = tmp_path / f".a.json.{os.getppid()}.tmp.json"
    living.write_text("half")
    write_json(tmp_path / "a.json", {})
    assert set(tmp_path.iterdir()) == {tmp_path / "a.json", living}


def test_what_a_killed_writer_left_does_not_reach_the_finished_folder(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "partial" / "rows.parquet")
    (tmp_path / "partial" / "other.parquet").write_text("whole")
    replace_folder(tmp_path / "partial", tmp_path / "done")
    assert [path.name for path in (tmp_path / "done").glob("*.parquet")] == ["other.parquet"]


def test_atomic_folder_replaces_the_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_folder(folder) as temporary:
            (temporary / name).write_text(name)
    assert [file.name for file in folder.iterdir()] == ["new"]
    with pytest.raises(RuntimeError), atomic_folder(folder):
        raise RuntimeError
    assert [file.name for file in folder.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("number", "file", "fault"),
    [
        (errno.EACCES, "source.csv", r"source.csv cannot be used \(Permission denied\): correct its permissions$"),
        (errno.EACCES, "target", r"target cannot be written \(Permission denied\): correct the permissions of its f"),
        (errno.EROFS, "", r"target cannot be written \(Read-only file system\): correct the permissions of its f"),
        (errno.ENOSPC, None, r"target cannot be written \(No space left on device\): free space, or name another"),
        (errno.ENOSPC, "source.csv", r"source.csv cannot be written \(No space left on device\): free space, or name"),
    ],
)
@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, atomic: Callable[[Path], Any], number: int, file: str | None, fault: str
) -> None:
    error = OSError(number, os.strerror(number), None if file is None else str(tmp_path / file))
    with pytest.raises(InputError, match=fault), atomic(tmp_path / "target"):
        raise error


def test_a_json_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=r"deep.json is not JSON \(.*\): delete it"):
        read_json(tmp_path / "deep.json")
    with pytest.raises(InputError, match=r"folder.json cannot be read \(Is a directory\): correct the path"):
        read_json(tmp_path / "folder.json")


@pytest.mark.parametrize("part", ["inputs", "facts", "files"])
def test_a_record_with_an_empty_part_is_no_record(tmp_path: Path, part: str) -> None:
    made = Artifact(tmp_path / "made", step="x", recipe="r", inputs={"photos": "abc"})
    with new_artifact(made) as folder:
        (folder / "file").write_text("content")
    record = made.path / "record.json"
    write_json(record, {**read_json(record), part: None})
    assert read_record(made.path) is None
    with pytest.raises(InputError, match="made is missing or unfinished: run the step x again"):
        made.require()


def test_fingerprint_depends_on_content_not_on_key_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_artifact_of_other_inputs_is_refused(tmp_path: Path) -> None:
    made = Artifact(tmp_path / "made", step="x", recipe="r", inputs={"photos": "abc"})
    with new_artifact(made) as folder:
        (folder / "file").write_text("content")
    assert made.require().files.keys() == {"file"}
    with pytest.raises(InputError, match=r"was made from other photos than there are now: run the step x again"):
        replace(made, inputs={"photos": "def"}).require()
    with pytest.raises(InputError, match=r"was made from other settings than there are now"):
        replace(made, recipe="s").require()
    (made.path / "file").write_text("altered")
    assert made.is_current(), "its size is what it was"
    with pytest.raises(InputError, match=r"file is damaged: delete it and run the step x again"):
        made.require_intact()
    (made.path / "file").unlink()
    with pytest.raises(InputError, match=r"is incomplete \(file is missing or was cut\)"):
        made.require()


def test_training_settings_of_one_run_are_checked_like_the_profile() -> None:
    settings = load_settings("demo", home=ROOT)
    assert settings.with_training({"seed": 3}).profile.training.seed == 3
    assert settings.with_training({}) == settings
    with pytest.raises(InputError, match=r"training settings of this run: epochs: .*greater than 0; speed: "):
        settings.with_training({"epochs": 0, "speed": 2})


def test_another_multimodal_model_is_asked_alone_and_at_its_own_provider() -> None:
    ours = LmmSettings(model="ollama/llava", api_base="http://127.0.0.1:11434", fallbacks=("openai/gpt-4o",))
    other = ours.asking("gemini/gemini-2.0-flash")
    assert (other.model, other.api_base, other.fallbacks) == ("gemini/gemini-2.0-flash", None, ())
    assert ours.asking("ollama/moondream").api_base == ours.api_base


@pytest.mark.parametrize(
    ("section", "change", "answers_alike"),
    [
        ("orchestration", {"owners": ["a@b.org"]}, True),
        ("evaluation", {"bootstrap_samples": 7}, True),
        ("lmm", {"concurrency": 9}, True),
        ("lmm", {"model": "ollama/llava"}, False),
        ("retrieval", {"candidates": 7}, False),
    ],
)
def test_only_settings_that_change_an_answer_make_another_model(
    section: str, change: dict[str, object], answers_alike: bool
) -> None:
    demo = load_profile(ROOT / "profiles" / "demo.yaml")
    now = getattr(demo, section)
    changed = {**now, **change} if isinstance(now, dict) else now.model_copy(update=change)
    assert (demo.model_copy(update={section: changed}).answering == demo.answering) == answers_alike
