"""The reference pages say what the code says."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import hookmill
from hookmill import errors
from hookmill.config.secrets import secret_variable_of
from hookmill.message import (
    BAGGAGE_FIELD,
    PACKED_VERSION,
    RESET_BY_REPLAY,
    SAFE_VERSION,
    TRACE_FIELD,
    WINDOW_FIELD,
    Death,
    Progress,
)
from hookmill.signatures.presets import PRESETS
from hookmill.stream.facts import Heartbeat
from hookmill.stream.keys import GroupKeys, Keys
from tests.docs.pages import DOCS, ROOT, name_of, runnable
from tests.docs.runner import Runner
from tests.support import message

REFERENCE = DOCS / "reference"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    return generate


@pytest.mark.parametrize("page", runnable("docs/reference", "docs/explanation"), ids=name_of)
async def test_a_page_to_read_works_block_by_block(page: Path, runner: Runner) -> None:
    await runner.run_page(page)


def test_the_generated_parts_are_current() -> None:
    generate = generator()
    assert len(generate.pages()) >= 6
    for page in generate.pages():
        assert generate.generated(page.read_text()) == page.read_text(), f"{page}: run `make docs`"
    for name, make in generate.FILES.items():
        assert (ROOT / name).read_text() == make(), f"{name}: run `make docs`"


def test_each_sender_has_a_section_that_can_be_pasted() -> None:
    page = (REFERENCE / "sources.md").read_text()
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    titles = [preset.title for preset in PRESETS.values()]
    assert headings == ["QStash", "Amazon SNS", "PayPal", *titles]
    for name in PRESETS:
        assert f"\n[sources.{name}]" in page
        assert f"\nexport {secret_variable_of(name)}=" in page


def test_each_code_of_a_refusal_is_listed_and_each_listed_one_exists() -> None:
    listed = set(re.findall(r"`([a-z_]+)`(?=[^|\n]*\| \d)", (REFERENCE / "answers.md").read_text()))
    assert codes_of_refusals() == listed


def codes_of_refusals() -> set[str]:
    """The codes in the code: what is refused, and the errors that become a refusal."""
    found = {
        getattr(errors, name).code
        for name in (
            "BacklogFullError", "CertificateUnavailableError", "NotConfirmedError",
            "NotDurableError", "PartitionsError", "StreamUnavailableError", "TokenReusedError",
        )
    }  # fmt: skip
    for folder in (
        "hookmill/signatures",
        "hookmill/config",
        "hookmill/runtime",
        "receiver",
        "worker",
    ):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    place = {"Fault": 0, "Refused": 0, "Refusal": 1, "PageRefusal": 1}.get(
                        node.func.id
                    )
                    code = node.args[place] if place is not None else None
                    if isinstance(code, ast.Constant):
                        found.add(code.value)
    return found


def test_each_key_in_redis_is_listed() -> None:
    page = (REFERENCE / "redis-keys.md").read_text()
    keys = Keys("hookmill")
    names = [getattr(keys, name) for name in ("stream", "backlog", "tokens", "probe")]
    names += [getattr(keys.of_group("GROUP"), name) for name in GroupKeys._fields]
    for name in names:
        assert re.search(rf"`{re.escape(name)}[`:]", page), name


def test_each_field_of_a_heartbeat_is_listed() -> None:
    page = (
        (REFERENCE / "redis-keys.md")
        .read_text()
        .partition("## Heartbeats")[2]
        .partition("\n## ")[0]
    )
    listed = {
        name for row in re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }  # fmt: skip
    assert listed == {*Heartbeat.__struct_fields__} - {"age_ms"}


def test_each_field_of_an_entry_is_listed() -> None:
    page = (REFERENCE / "wire-format.md").read_text()
    listed = {
        name for row in re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }  # fmt: skip
    written = {
        *message(key="k").to_fields(SAFE_VERSION),
        *message(key="k").to_fields(PACKED_VERSION),
        *(TRACE_FIELD, BAGGAGE_FIELD, WINDOW_FIELD),
        *Progress(owner="1-0", moved_ms=1).to_fields(),
        *Death(reason="failed", error="", died_ms=0).to_fields(),
    }
    assert listed == {name.decode() for name in written}
    assert "A replay removes `attempts`, `failed`, `unknown`, `reason`, `error` and `died`." in page
    assert set(RESET_BY_REPLAY) < written


def test_the_page_shows_the_layers_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(one["layers"] for one in contracts["contracts"] if one["type"] == "layers")
    page = (DOCS / "explanation" / "architecture.md").read_text()
    drawing = page.partition("## The layers")[2].split("```")[1]
    drawn = [set(re.findall(r"\w+", box)) for box in re.split("─+", drawing)]
    drawn = [words for words in drawn if words][-len(layers) :]
    for layer, words in zip(layers, drawn, strict=True):
        packages = {name.removeprefix("hookmill.") for name in re.findall(r"[\w.]+", layer)}
        assert packages <= words, (layer, words)


def test_each_public_name_is_described() -> None:
    page = (REFERENCE / "api.md").read_text()
    assert sorted(re.findall(r"auto\w+:: hookmill\.(\w+)", page)) == sorted(hookmill.__all__)


def test_each_reason_of_a_dead_letter_is_listed() -> None:
    page = (DOCS / "how-to" / "replay-dead-letters.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    code = "".join(path.read_text() for path in (ROOT / "worker").glob("*.py"))
    assert errors.DecodeError.code in listed
    assert errors.WireVersionError.code in listed
    for reason in listed - {errors.DecodeError.code, errors.WireVersionError.code}:
        assert f'"{reason}"' in code, reason


@pytest.mark.parametrize("page", ["guarantees", "threat-model"])
def test_every_test_that_a_promise_names_exists(page: str) -> None:
    text = (DOCS / "explanation" / f"{page}.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 10
    for path, name in named:
        assert f"def {name}" in (ROOT / path).read_text(), f"{path}::{name}"


def test_the_threat_model_has_a_test_for_each_of_its_bounds() -> None:
    """And each part says what is not covered, so that nobody takes its silence for a promise."""
    text = (DOCS / "explanation" / "threat-model.md").read_text()
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    for part in parts:
        rows = re.findall(r"^\|(.+)\|$", part, re.MULTILINE)[2:]
        assert all("tests/" in row.split("|")[-1] for row in rows), part
        assert not rows or "**Not covered.**" in part, part.splitlines()[0]
