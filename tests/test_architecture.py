"""The documented layout is the one that the imports follow."""

import re
import tomllib
from pathlib import Path

from conftest import ROOT

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()


def documented(package: str) -> list[str]:
    """The first word of each line of the list that follows `<package>, from top to bottom:`."""
    block = re.search(rf"`{package}`, from top to bottom:\n\n```\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None, f"docs/architecture.md lists no layers of {package}"
    return [line.split()[0] for line in block[1].splitlines()]


def contracted(package: str) -> list[str]:
    """The layers of the package's contract, without the package's name."""
    [contract] = [contract for contract in CONTRACTS if contract["name"].startswith(f"{package}:")]
    names = [name.strip() for layer in contract["layers"] for name in layer.split("|")]
    return [name.removeprefix(f"{package}.") for name in names if name.startswith(f"{package}.")]


def test_documented_layers_are_the_checked_ones() -> None:
    for package in ("dualgeo_core", "dualgeo_dagster"):
        assert documented(package) == contracted(package)


def test_every_module_belongs_to_a_layer() -> None:
    for package in ("dualgeo_core", "dualgeo_dagster"):
        found = {
            path.stem
            for path in Path(ROOT, package).iterdir()
            if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").is_file())
        }
        assert found == set(contracted(package))
