"""Writes the generated parts of README and docs, each between two marks, from the code that they
describe. `make docs` runs it; a test fails where a part is not current.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import figures
import rights
import typer

from hookmill.admin import describe
from hookmill.cli.main import app
from hookmill.config.secrets import secret_variable_of
from hookmill.config.settings import Settings, variable_of
from hookmill.errors import see
from hookmill.instrumentation.program import ProgramMetrics
from hookmill.runtime.metrics_page import LogMetrics
from hookmill.runtime.supervisor_pages import OWN_METRICS
from hookmill.signatures.presets import PRESETS, Preset
from hookmill.signatures.spec import SignatureSpec
from hookmill.stream.client import Client
from hookmill.stream.facts import Heartbeat
from receiver.metrics import Metrics
from receiver.spool_metrics import SpoolMetrics
from worker.instruments import Instruments, WorkerCounts
from worker.metrics import WorkerMetrics

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


# --- settings, commands, metrics ---


def settings() -> str:
    """Return a Markdown table of all settings: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default is None else f"`{field.default}`"
        variable = "`[sources.*]`" if name == "sources" else f"`{variable_of(name)}`"
        meaning = (field.description or "").replace(
            see("reference/sources.md"), "see [Sources](sources.md)"
        )
        rows.append(f"| {variable} | {default} | {meaning} |")
    return "\n".join(rows)


def commands() -> str:
    """Return a section for each command: what it does, its arguments and its options."""
    return "\n\n".join(_command(path, command) for path, command in _all_commands())


def _all_commands() -> Iterator[tuple[str, Any]]:
    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from walk(f"{path} {name}", inner)
        else:
            yield path, command

    return walk("hookmill", typer.main.get_command(app))


def _command(path: str, command: Any) -> str:
    paragraphs = [" ".join(one.split()) for one in (command.help or "").split("\n\n")]
    given = [one for one in command.params if one.name != "help"]
    arguments = [
        _value(one) if one.required else f"[{_value(one)}]" for one in given if not _is_option(one)
    ]
    usage = " ".join([path, *(["[OPTIONS]"] if len(arguments) < len(given) else []), *arguments])
    lines = [
        f"## `{path}`",
        "",
        "\n\n".join(map(_in_cell, paragraphs)),
        "",
        "```text",
        usage,
        "```",
    ]
    if given:
        lines += ["", "| argument or option | default | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *map(_row, given)])


def _row(parameter: Any) -> str:
    name = _value(parameter)
    if _is_option(parameter):
        name = " ".join([parameter.opts[0], *([] if parameter.is_flag else [name])])
    is_set = parameter.default not in (None, False, ())
    default = "(required)" if parameter.required else f"`{parameter.default}`" if is_set else ""
    return f"| `{name}` | {default} | {_in_cell(parameter.help or '')} |"


def _is_option(parameter: Any) -> bool:
    return str(parameter.opts[0]).startswith("-")


def _value(parameter: Any) -> str:
    return str(parameter.metavar or parameter.opts[0].lstrip("-").replace("-", "_").upper())


def metrics() -> str:
    """Return a Markdown table of what `/metrics` shows: which program, name, type, labels."""
    both = (*ProgramMetrics(_client(), 0.0).collect(), *LogMetrics().collect())
    receiver = (*Metrics().collect(), *SpoolMetrics(ROOT, 0).collect())
    none = WorkerCounts(*[0] * len(WorkerCounts._fields))
    instruments = Instruments(Settings(), (), _client(), lambda: none)
    of_both = {family.name for family in both}
    worker = [
        *WorkerMetrics(lambda: Heartbeat(name="any")).collect(),
        *(family for family in instruments.collect() if family.name not in of_both),
    ]
    rows = ["| metric | of | type | labels | meaning |", "|---|---|---|---|---|"]
    for program, families in (("receiver", receiver), ("worker", worker), ("both", both)):
        for family in families:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in family._labelnames)  # noqa: SLF001 - its only name
            rows.append(
                f"| `{name}` | {program} | {family.type} | {labels} | {family.documentation} |"
            )
    for own, kind, meaning in OWN_METRICS:
        name = f"{own}_total" if kind == "counter" else own
        rows.append(f"| `{name}` | supervisor | {kind} |  | {meaning} |")
    return "\n".join(rows)


def _client() -> Client:
    return Client("redis://localhost", "hookmill")


def packages() -> str:
    """Return a Markdown table of the packages: duty, and modules."""
    rows = ["| package | duty | modules |", "|---|---|---|"]
    inner = [path for path in (ROOT / "hookmill").iterdir() if (path / "__init__.py").exists()]
    for package in [ROOT / "hookmill", *sorted(inner), ROOT / "receiver", ROOT / "worker"]:
        duty = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
        first = re.split(r"(?<=\.)\s", duty.partition("\n\n")[0].replace("\n", " "))[0]
        modules = sorted(path.stem for path in package.glob("*.py") if path.stem[0] != "_")
        shown = ", ".join(f"`{module}`" for module in modules)
        rows.append(f"| `{package.relative_to(ROOT).as_posix()}/` | {_in_cell(first)} | {shown} |")
    return "\n".join(rows)


# --- senders ---


def senders() -> str:
    """Return a section for each sender of the table."""
    return "\n\n".join(_section(name, preset) for name, preset in PRESETS.items())


def overview() -> str:
    """Return a Markdown table of all senders: name, what is signed, whether time and ID are."""
    rows = [
        "| sender | name | signed time | message ID |",
        "|---|---|---|---|",
        "| [QStash](#qstash) | `qstash` | 5 min | a header (not signed) |",
        "| [QStash's callbacks](#qstash) | `qstash-callbacks` | 5 min | a header (not signed) |",
        "| [Amazon SNS](#amazon-sns) | `sns` | 65 min | MessageId (signed) |",
        "| [PayPal](#paypal) | `paypal` | 72 h | PAYPAL-TRANSMISSION-ID (signed) |",
    ]
    for name, preset in PRESETS.items():
        spec = preset.spec
        time = describe.span(spec.tolerance) if spec.timestamp else "none"
        link = f"[{preset.title}](#{_anchor(preset.title)})"
        rows.append(f"| {link} | `{name}` | {time} | {_code(describe.identified(spec))} |")
    return "\n".join(rows)


def words() -> str:
    """Return the words of a signature spec with their defaults, in the order of declaration."""
    rows = ["| word | default |", "|---|---|"]
    for name, field in zip(
        SignatureSpec.__struct_fields__, (None, *SignatureSpec.__struct_defaults__), strict=True
    ):
        default = "(has to be given)" if field is None else f"`{_toml(field)}`"
        rows.append(f"| `{name}` | {default} |")
    return "\n".join(rows)


def _section(name: str, preset: Preset) -> str:
    spec, variable = preset.spec, secret_variable_of(name)
    by_key = name == "marble"
    table = f"[sources.{name}]" + ("   # not needed: the variable switches it on" if by_key else "")
    if spec.handshake == "meta":
        table += '\nverify_token = "env:META_VERIFY_TOKEN"'
    lines = [
        f"### {preset.title}",
        "",
        f"* Where: {preset.where}.",
        f"* Secret: {preset.secret}.",
        f"* Note: {preset.note or f'its deliveries come to `/{name}`'}.",
        "",
        "```toml",
        table,
        "```",
        "```sh",
        f"export {variable}=...   # or {variable}_FILE=/run/secrets/{name}",
        "```",
        "",
        f"Signed: {_code(describe.signed(spec))}.",
        f"Time: {describe.timed(spec)}.",
        f"ID: {_code(describe.identified(spec))}.",
        f"Type: {_code(describe.typed(spec))}.",
    ]
    return "\n".join(lines)


def _code(text: str) -> str:
    """Set templates as code: Markdown has a meaning for braces and stars of its own."""
    return re.sub(r"[^\s;,()]*\{[^;,()]*\}[^\s;,()]*", lambda match: f"`{match[0]}`", text)


def _anchor(title: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", title.lower())
    return kept.replace(" ", "-")


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return "[]"
        case str():
            return f'"{value}"'
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)


def _in_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


# --- examples ---


def example(name: str) -> str:
    """Return an example as a Markdown code block, without its docstring."""
    code = (ROOT / "examples" / name).read_text().partition('"""\n\n')[2]
    return f"```python\n{code}```"


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "commands": commands,
    "metrics": metrics,
    "packages": packages,
    "overview": overview,
    "words": words,
    "senders": senders,
    "example": lambda: example("handlers.py"),
    "publish": lambda: example("publish.py"),
    "capacity": figures.capacity,
}
"""The generated parts by the name in their marks: `<!-- settings -->` to `<!-- /settings -->`."""


FILES: dict[str, Callable[[], str]] = {
    "hookmill/admin/measured.py": figures.module,
    "hookmill/stream/rights.txt": rights.listed,
    "deploy/redis/users.acl": rights.users,
    "deploy/redis/users-before-7.2.acl": lambda: rights.users(before_7_2=True),
}
"""The files that are generated as a whole."""


def generated(page: str) -> str:
    """Return a page with its generated parts renewed."""
    for name, make in PARTS.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if marked.search(page):
            part = make()
            page = marked.sub(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", page)  # type: ignore[misc] # the lambda binds its part
    return page


def pages() -> list[Path]:
    """Return the pages that have a generated part."""
    every = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    return [page for page in every if any(f"<!-- /{n} -->" in page.read_text() for n in PARTS)]


def main() -> None:
    """Write pages and files again; with `--check` only say which of them are not current."""
    texts = {page: generated(page.read_text()) for page in pages()}
    texts |= {ROOT / name: make() for name, make in FILES.items()}
    for path, renewed in texts.items():
        if path.exists() and path.read_text() == renewed:
            continue
        if "--check" in sys.argv:
            sys.exit(f"{path.relative_to(ROOT)} is not current: run `make docs`")
        path.parent.mkdir(exist_ok=True)
        path.write_text(renewed)


if __name__ == "__main__":
    main()
