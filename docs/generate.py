"""Writes what is generated: parts of the README, and docs/sources.md from the table of senders.
`make docs`.
"""

from __future__ import annotations

import re
from pathlib import Path

from hookmill.admin import describe
from hookmill.config.secrets import variable_of as secret_variable_of
from hookmill.config.settings import Settings, variable_of
from hookmill.signatures.presets import PRESETS, Preset
from hookmill.signatures.spec import SignatureSpec

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "docs" / "sources.md", ROOT / "docs" / "sending.md"]


def settings_table() -> str:
    """Return a Markdown table of all settings: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default is None else f"`{field.default}`"
        variable = "`[sources.*]`" if name == "sources" else f"`{variable_of(name)}`"
        rows.append(f"| {variable} | {default} | {field.description} |")
    return "\n".join(rows)


def example(name: str) -> str:
    """Return an example as a Markdown code block, without its docstring."""
    code = (ROOT / "examples" / name).read_text().partition('"""\n\n')[2]
    return f"```python\n{code}```"


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
    """Return the words of a shape with their defaults, in the order of their declaration."""
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
        "```",
        f"{variable}=...   # or {variable}_FILE=/run/secrets/{name}",
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


def generated(page: str) -> str:
    """Return a page with its generated parts renewed."""
    made = (
        ("settings", settings_table()),
        ("example", example("handlers.py")),
        ("publish", example("publish.py")),
        ("overview", overview()),
        ("words", words()),
        ("senders", senders()),
    )
    for name, text in made:
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        page = re.sub(pattern, lambda m, t=text: m[1] + t + "\n" + m[2], page, flags=re.DOTALL)  # type: ignore[misc] # the lambda binds its text
    return page


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(generated(path.read_text()))
