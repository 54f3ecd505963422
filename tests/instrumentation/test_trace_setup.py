"""How a program sets traces up, or says why it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hookmill.config.settings import Settings, load_settings
from hookmill.errors import SettingsError
from hookmill.instrumentation.trace_setup import tracing_of

pytestmark = pytest.mark.one_server

OFF_IMPORTS_NOTHING = """
import sys
sys.modules["opentelemetry"] = None
import receiver.main, worker.main, hookmill.sending.sender
from hookmill.config.settings import Settings
from hookmill.instrumentation.trace_setup import tracing_of

assert tracing_of(Settings()) is None
assert "hookmill.instrumentation.tracing" not in sys.modules
"""

WITHOUT_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
from hookmill.config.settings import Settings
from hookmill.errors import SettingsError
from hookmill.instrumentation.trace_setup import tracing_of

try:
    tracing_of(Settings(traces="joined"))
except SettingsError as error:
    print(error)
"""

SETTING_UP = """
calls = []

def start():
    calls.append(1)

def fail():
    raise OSError("no")
"""


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_with_traces_off_nothing_of_opentelemetry_is_imported() -> None:
    run(OFF_IMPORTS_NOTHING)


def test_without_the_extra_a_program_ends_and_says_what_to_install() -> None:
    assert run(WITHOUT_EXTRA) == (
        "HOOKMILL_TRACES=joined: it needs OpenTelemetry: install hookmill[otel]\n"
    )


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Settings]:
    """Settings with this set-up function, in a folder that has a module `setting_up`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "setting_up.py").write_text(SETTING_UP)
    monkeypatch.delitem(sys.modules, "setting_up", raising=False)
    return lambda target: Settings(traces="linked", traces_setup=target)


def test_the_users_function_is_called_once_and_a_missing_sdk_is_named(
    traced: Callable[[str], Settings],
) -> None:
    with capture_logs() as lines:
        tracing = tracing_of(traced("setting_up:start"))
    assert tracing is not None
    assert not tracing.is_joined
    assert sys.modules["setting_up"].calls == [1]
    assert "no SDK of OpenTelemetry is set up" in lines[0]["event"]


def test_an_error_of_the_users_function_is_passed_on(traced: Callable[[str], Settings]) -> None:
    with pytest.raises(OSError, match="no"):
        tracing_of(traced("setting_up:fail"))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("setting_up:gone", "HOOKMILL_TRACES_SETUP: 'setting_up:gone': setting_up has no such"),
        ("nowhere:start", "HOOKMILL_TRACES_SETUP: 'nowhere:start': there is no module 'nowhere'"),
    ],
)
def test_a_function_that_is_not_there_is_named(
    target: str, says: str, traced: Callable[[str], Settings]
) -> None:
    with pytest.raises(SettingsError, match=says):
        tracing_of(traced(target))


@pytest.mark.parametrize("value", ["start", "a b:c", ":", "x:"])
def test_a_name_that_is_none_is_a_fault_of_the_settings(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOKMILL_TRACES_SETUP", value)
    with pytest.raises(SettingsError, match="HOOKMILL_TRACES_SETUP: name the function as MODULE:"):
        load_settings()
