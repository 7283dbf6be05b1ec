"""What the README says is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gpuzarr import errors
from gpuzarr.cli import command_line, demo_data
from tests.readme_tables import README, with_tables

TEXT = README.read_text(encoding="utf-8")
ROOT = README.parent


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's data set in ./demo, in small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_data, "WEATHER_SHAPE", (12, 200, 100))
    monkeypatch.setattr(demo_data, "WEATHER_CHUNKS", (1, 200, 100))
    monkeypatch.setattr(demo_data, "CELLS_SHAPE", (48, 256, 256))
    demo_data.write_demo(Path("demo"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_tables_are_those_of_the_registries() -> None:
    assert with_tables(TEXT) == TEXT, "run: python -m tests.readme_tables"


@pytest.mark.usefixtures("demo")
def test_the_first_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)  # noqa: S102  our own text
    assert "float32" in capsys.readouterr().out
    assert getattr(names["day"], "shape", None) == (200, 100)
    assert getattr(names["crop"], "shape", None) == (2, 100, 100)


def test_the_two_commands_are_one_line_each() -> None:
    for name in ("demo", "test"):
        found = re.findall(rf"<!-- command: {name} -->\n```sh\n(.*)\n```\n", TEXT)
        assert len(found) == 1, name
    assert len(blocks("sh")) == 2


def test_every_command_is_described() -> None:
    described = set(re.findall(r"^\| `gpuzarr (\w+)", TEXT, re.MULTILINE))
    assert described == set(command_line.COMMANDS)


def test_every_extra_is_described() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    section = TEXT.partition("## Installing")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(
        project["optional-dependencies"]
    )
    for dependency in project["dependencies"]:
        assert re.match(r"[\w-]+", dependency)[0] in section.replace("NumPy", "numpy")  # type: ignore[index]


def test_every_error_is_described() -> None:
    section = TEXT.partition("## Errors")[2].partition("\n## ")[0]
    for name in (line for line in vars(errors) if line.endswith("Error")):
        assert f"`{name}`" in section or f"gpuzarr.{name}`" in section


def test_links_lead_somewhere() -> None:
    for document in [README, *ROOT.glob(".github/*.md"), *ROOT.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
