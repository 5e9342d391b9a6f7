"""`dualgeo_core` is a library of its own: it neither imports nor mentions what orchestrates it."""

import re
import subprocess
import sys

from conftest import ROOT

ORCHESTRATION = re.compile("dagster|mlflow|dvc|materiali[sz]e", re.IGNORECASE)


def test_core_mentions_no_orchestration() -> None:
    mentions = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "dualgeo_core").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if ORCHESTRATION.search(line)
    ]
    assert mentions == []


def test_one_module_knows_the_cluster() -> None:
    modules = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "dualgeo_core").rglob("*.py"))
        if re.search(r"^\s*(import|from) ray\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert modules == ["dualgeo_core/pipeline/cluster.py"]


def test_core_imports_no_orchestration() -> None:
    code = (
        "import sys, pkgutil, importlib, dualgeo_core\n"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(dualgeo_core.__path__, 'dualgeo_core.')]\n"
        "print([m for m in ('dagster', 'mlflow', 'dvc', 'great_expectations') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
