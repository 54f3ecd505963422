"""The sources as an operator asks about them: how each is set up, and what came from it lately.

It reads no secret: which of them verified deliveries is in the history of rates, by where it is
kept.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from hookmill.admin import describe
from hookmill.admin.rates import Rates
from hookmill.config.secrets import secret_variable_of
from hookmill.config.settings import Settings
from hookmill.config.source_options import preset_of, spec_of
from hookmill.config.sources import names_of
from hookmill.instrumentation.rates import Field
from hookmill.signatures.presets import PRESETS

_STORED = {"accepted", "answered"}


class SourceView(NamedTuple):
    """A source. `facts` are pairs of a title and a text, `setup` are the lines that switch it on.
    `accepted`, `refused` and `secrets` count the deliveries of the time that was asked about;
    `last_at` is when the last accepted one came, to a step of that time (Unix seconds, 0: none).
    """

    name: str
    title: str
    path: str
    setup: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    accepted: int
    refused: Counter[str]
    secrets: Counter[str]
    last_at: int


def views(settings: Settings, rates: Rates) -> list[SourceView]:
    """Return the sources of the settings, and those that the history knows, by their names."""
    seen = {str(field[1]) for counts in rates.counts for field in counts if field[0] == "in"}
    names = {*names_of(settings), *settings.sources, *seen}
    return [_view(name, settings, rates) for name in sorted(names)]


def _view(name: str, settings: Settings, rates: Rates) -> SourceView:
    preset = PRESETS.get(preset_of(name, settings.options_of(name)))
    refused: Counter[str] = Counter()
    secrets: Counter[str] = Counter()
    accepted = last_at = 0
    for number, counts in enumerate(rates.counts):
        for field, count in counts.items():
            kind, outcome = _about(field, name)
            if kind == "key":
                secrets[outcome] += count
            elif outcome == "accepted":
                accepted, last_at = accepted + count, rates.start + number * rates.step
            elif outcome not in _STORED and kind == "in":
                refused[outcome] += count
    return SourceView(
        name=name,
        title=preset.title if preset else name,
        path=settings.path_of(name),
        setup=_setup(name),
        facts=_facts(name, settings),
        accepted=accepted,
        refused=refused,
        secrets=secrets,
        last_at=last_at,
    )


def _about(field: Field, source: str) -> tuple[str, str]:
    """Return the kind and the last label of a field about this source, two empty ones else."""
    if len(field) == 3 and field[0] in {"in", "key"} and field[1] == source:
        return str(field[0]), str(field[2])
    return "", ""


def _setup(name: str) -> tuple[str, ...]:
    variable = secret_variable_of(name)
    if name == "qstash":
        return ("export QSTASH_CURRENT_SIGNING_KEY=...", "export QSTASH_NEXT_SIGNING_KEY=...")
    table = () if name == "marble" else (f"[sources.{name}]   # in hookmill.toml",)
    return (*table, f"export {variable}_FILE=/run/secrets/{name}", "hookmill receiver")


def _facts(name: str, settings: Settings) -> tuple[tuple[str, str], ...]:
    try:
        spec = spec_of(name, settings.options_of(name))
    except ValueError:
        return ()
    if spec is None:
        return ()
    return (
        ("Signed", describe.signed(spec)),
        ("Time", describe.timed(spec)),
        ("ID", describe.identified(spec)),
        ("Type", describe.typed(spec)),
    )
