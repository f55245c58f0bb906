"""The table of settings: complete, readable, and the one in the README."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import ByteSize, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from workers import settings_table
from workers.settings_table import BEGIN, END, SECTIONS, inserted, main, markdown

README = Path(__file__).resolve().parents[2] / "README.md"


class Sample(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FITCHAIN_")

    size_bytes: ByteSize = Field(default=ByteSize(3 * 1024**3), description="how much")
    color: Literal["red", "blue"] = Field(default="red", description="which | one.")
    password: SecretStr | None = Field(default=None, description="of <user>")
    needed: int = Field(description="Must be set.")
    seconds: float = Field(default=30.0, description="how long")


def test_rows_say_variable_default_and_meaning() -> None:
    rows = markdown([("Sample", Sample)]).splitlines()[4:]
    assert rows == [
        "| `FITCHAIN_SIZE_BYTES` | `3 GiB` | How much. |",
        "| `FITCHAIN_COLOR` | `red` | Which &#124; one. One of `red`, `blue`. |",
        "| `FITCHAIN_PASSWORD` | – | Of &lt;user>. |",
        "| `FITCHAIN_NEEDED` | (required) | Must be set. |",
        "| `FITCHAIN_SECONDS` | `30` | How long. |",
    ]


def test_a_setting_without_a_description_is_refused() -> None:
    class Silent(BaseSettings):
        value: int = 1

    with pytest.raises(ValueError, match=r"Silent\.value has no description"):
        markdown([("Silent", Silent)])


def test_every_field_has_one_row_and_no_variable_stands_twice() -> None:
    variables = [line.split("`")[1] for line in markdown().splitlines() if line.startswith("| `")]
    assert len(variables) == sum(len(settings.model_fields) for _, settings in SECTIONS)
    assert len(set(variables)) == len(variables)
    assert all(variable.startswith("FITCHAIN_") for variable in variables)


def test_the_readme_has_this_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert inserted(text, markdown()) == text, "run: python -m workers.settings_table --write README.md"


def test_writing_replaces_what_is_between_the_marks_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_table, "markdown", lambda: "new\n")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["--write", str(page)]) == 0
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


def test_a_page_without_marks_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{END} then {BEGIN}")
    assert main(["--write", str(page)]) == 1
    assert "no place for the table" in capsys.readouterr().err
    assert page.read_text() == f"{END} then {BEGIN}"
