"""Writes the generated parts of the README: the settings table and the example. `make docs`."""

from __future__ import annotations

import re
from pathlib import Path

from hookmill.settings import Settings, variable_of

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def settings_table() -> str:
    """Return a Markdown table of all settings: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default is None else f"`{field.default}`"
        variable = "`[sources.*]`" if name == "sources" else f"`{variable_of(name)}`"
        rows.append(f"| {variable} | {default} | {field.description} |")
    return "\n".join(rows)


def example() -> str:
    """Return the example handlers as a Markdown code block, without their docstring."""
    code = (ROOT / "examples" / "handlers.py").read_text().partition('"""\n\n')[2]
    return f"```python\n{code}```"


def generated(readme: str) -> str:
    """Return the README with its generated parts renewed."""
    for name, text in (("settings", settings_table()), ("example", example())):
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        readme = re.sub(pattern, lambda m, t=text: m[1] + t + "\n" + m[2], readme, flags=re.DOTALL)  # type: ignore[misc] # the lambda binds its text
    return readme


if __name__ == "__main__":
    README.write_text(generated(README.read_text()))
