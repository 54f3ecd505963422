"""Writes the generated parts of README and docs, each between two marks, from the code that they
describe. `make docs` runs it; a test fails where a part is not current.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import typer

from hookmill.admin import describe
from hookmill.cli.main import app
from hookmill.config.secrets import variable_of as secret_variable_of
from hookmill.config.settings import Settings, variable_of
from hookmill.signatures.presets import PRESETS, Preset
from hookmill.signatures.spec import SignatureSpec
from receiver.metrics import Metrics

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


# --- settings, commands, metrics ---


def settings() -> str:
    """Return a Markdown table of all settings: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default is None else f"`{field.default}`"
        variable = "`[sources.*]`" if name == "sources" else f"`{variable_of(name)}`"
        rows.append(f"| {variable} | {default} | {field.description} |")
    return "\n".join(rows)


def commands() -> str:
    """Return a section for each command: what it does, its arguments and its options."""
    return "\n\n".join(_command(path, command) for path, command in _all_commands())


def _all_commands() -> Iterator[tuple[str, click.Command]]:
    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            for name in command.commands:
                yield from walk(f"{path} {name}", command.commands[name])
        else:
            yield path, command

    return walk("hookmill", typer.main.get_command(app))


def _command(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    text = "\n\n".join(
        " ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")
    )
    lines = [f"## `{path}`", "", text, "", "```text", f"{path} {usage}", "```"]
    rows = [_parameter(one, context) for one in command.params if one.name != "help"]
    if rows:
        lines += ["", "| argument or option | default | meaning |", "|---|---|---|", *rows]
    return "\n".join(lines)


def _parameter(parameter: click.Parameter, context: click.Context) -> str:
    meaning, default = getattr(parameter, "help", "") or "", parameter.default
    name = parameter.make_metavar(context)
    if isinstance(parameter, click.Option):
        value = "" if parameter.is_flag else f" {name}"
        name = f"{', '.join(parameter.opts)}{value}"
    shown = "" if default in (None, False, ()) or callable(default) else f"`{default}`"
    if parameter.required:
        shown = "(required)"
    return f"| `{name.replace('|', ' ')}` | {shown} | {_in_cell(meaning)} |"


def metrics() -> str:
    """Return a Markdown table of what `/metrics` shows."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{family.name}_total` | {family.type} | "
        f"{', '.join(f'`{label}`' for label in family._labelnames)} | {family.documentation} |"
        for family in Metrics().collect()
    ]
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
    "overview": overview,
    "words": words,
    "senders": senders,
    "example": lambda: example("handlers.py"),
    "publish": lambda: example("publish.py"),
}
"""The generated parts by the name in their marks: `<!-- settings -->` to `<!-- /settings -->`."""


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


if __name__ == "__main__":
    for path in pages():
        path.write_text(generated(path.read_text()))
