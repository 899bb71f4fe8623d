"""The packages depend in one direction, without cycles, and stay small."""

import ast
import shutil
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imports(package: Path, *, top_level: bool) -> dict[str, set[str]]:
    """For each module of a package, the modules that it imports; with `top_level`, only when it is imported itself."""
    paths = {".".join(p.relative_to(package.parent).with_suffix("").parts): p for p in package.rglob("*.py")}
    found: dict[str, set[str]] = {module.removesuffix(".__init__"): set() for module in paths}
    for module, path in zip(found, paths.values(), strict=True):
        tree = ast.parse(path.read_text(encoding="utf8"))
        for node in tree.body if top_level else ast.walk(tree):
            if isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found[module] |= {name if name in found else str(node.module) for name in names}
    return found


def faults(root: Path) -> list[str]:
    wrong = []
    for module, names in imports(root / "tlhelpers", top_level=False).items():
        wrong += [f"{module} imports {name}" for name in sorted(names) if name.split(".")[0] == "tlcourse"]
    for package in ("tlhelpers", "tlcourse"):
        try:
            TopologicalSorter(imports(root / package, top_level=True)).prepare()
        except CycleError as error:
            wrong.append("a cycle: " + ", ".join(error.args[1]))
    return wrong


def test_no_import_goes_the_wrong_way_or_in_a_circle() -> None:
    assert faults(ROOT) == []


@pytest.mark.parametrize("line", ["import tlcourse", "from tlhelpers.training import fit"])
def test_a_wrong_import_is_found(line: str, tmp_path: Path) -> None:
    for package in ("tlhelpers", "tlcourse"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.json", "*.safetensors"))
    before = faults(tmp_path)
    with (tmp_path / "tlhelpers" / "loop.py").open("a", encoding="utf8") as file:
        file.write(f"\n{line}\n")
    assert len(faults(tmp_path)) == len(before) + 1


LIMITS = {"tlhelpers/**/*.py": 4500, "tlcourse/**/*.py": 6500, "tests/**/*.py": 9000, "README.md": 150}


@pytest.mark.parametrize("files", LIMITS)
def test_the_code_and_the_readme_stay_short(files: str) -> None:
    assert 0 < sum(path.read_text(encoding="utf8").count("\n") for path in ROOT.glob(files)) <= LIMITS[files]
