"""Finds which commands of Redis each role needs, in the code and in the scripts that it runs.

A role begins with the functions of its packages. From there, calls are followed by name: a name
means each method of that name of the classes that the module imports. So a role may get a command
too many, and none too few. `docs/generate.py` writes what comes out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hookmill.stream.script_runner import script_text

ROOT = Path(__file__).parent.parent
STREAM = "hookmill.stream"
_TEXTS = {path.stem: path.read_text() for path in (ROOT / "hookmill/stream/scripts").glob("*.lua")}
_PARTS = re.compile(r"^--#include (\w+)$", re.MULTILINE)

SCRIPTS = _TEXTS.keys() - {part for text in _TEXTS.values() for part in _PARTS.findall(text)}
"""The scripts that are run. A part of others is not, though a text may have its name."""

ROLES: dict[str, tuple[str, ...]] = {
    "receiver": ("receiver",),
    "worker": ("worker",),
    "operator": ("hookmill.admin",),
    "console": (
        "hookmill.admin.status.look",
        "hookmill.admin.status.watch",
        "hookmill.admin.checkup.check",
        "hookmill.admin.dead_letters.opened",
        "hookmill.admin.dead_letters.find",
        "hookmill.admin.dead_letters.find_waiting",
        "hookmill.admin.dead_letters.select",
        "hookmill.admin.dead_letters.SelectedDeadLetters.listed",
        "hookmill.admin.dead_letters.SelectedDeadLetters.count",
        "hookmill.admin.groups.list_all",
        "hookmill.admin.redactions.shown",
        "hookmill.admin.refused",
        "hookmill.admin.tailing",
        "hookmill.admin.forwarding",
        "hookmill.admin.messages.opened",
        "hookmill.admin.messages.Messages.find",
        "hookmill.admin.messages.Messages.story",
        "hookmill.admin.audit.listed",
        "hookmill.admin.rates.RateReader",
        "hookmill.admin.recent.page",
        "hookmill.admin.redactions.shown_by",
        "hookmill.admin.dead_letters.page",
        "hookmill.admin.dead_groups.groups",
        "hookmill.admin.pauses.listed",
    ),
}
"""Where each role begins: packages, modules or functions."""

CONNECTION = ("CLUSTER SLOTS", "PING", "SELECT")
"""What connections send by themselves, in a cluster or elsewhere. AUTH and HELLO need no right."""

SINCE_7_2 = {"CLIENT SETINFO", "WAITAOF"}
"""Commands that older servers lack. These refuse a user with a right that they do not know."""

_NEVER_SENT = {
    # `check` asks for a write without a durability, and asks sentinels only about themselves.
    "operator": {"SENTINEL", "WAIT", "WAITAOF"},
    # It reads, and `check` says that it may not ask whether Redis takes writes.
    "console": {"DEL", "SENTINEL", "SET", "WAIT", "WAITAOF", "XADD"},
}
"""What a role does without, although its code leads to it."""

_CONTAINERS = {"CLIENT", "CLUSTER", "COMMAND", "CONFIG", "MEMORY", "SCRIPT", "XGROUP", "XINFO"}
"""Commands whose subcommands are rights of their own."""

TRIES_ALL = "rights"
"""The script that finds out which commands are refused. It needs no right of its own."""

_COMMON = {name for kind in (dict, list, set, str) for name in dir(kind)} | {"info"}
"""Names that other objects have as well (a list, a logger). Only `await` tells what is meant."""

_SENDING = {"_ask", "_infos", "ask", "ask_servers", "execute", "execute_command"}
"""Functions that get a command word by word."""

_CALLED = re.compile(r"redis\.p?call\(('(\w+)'(?:, '(\w+)')?)?")
"""A call in a script, with its command and the subcommand that may follow."""


_Class = tuple[str, str]
"""A class: its module and its name."""


class Unit(NamedTuple):
    """A function or method, and where it stands. `owner` is its class, "" for a function."""

    module: str
    owner: str
    name: str
    node: ast.AST


class Module(NamedTuple):
    """A module: its functions, its classes with their bases, and what it imports by which name."""

    units: list[Unit]
    bases: dict[str, list[str]]
    imported: dict[str, str]


class Code:
    """The code of the roles, and what they lead to."""

    def __init__(self) -> None:
        self.modules = {name: _module_of(name, path) for name, path in _files()}
        self._scopes: dict[str, set[_Class]] = {}

    def reached(self, roots: Iterable[str]) -> set[Unit]:
        """Return all functions that are reached from these packages, modules or functions.

        A method counts once a function that is reached names its class, and so may create it.
        """
        every = [unit for module in self.modules.values() for unit in module.units]
        left: set[Unit] = set()
        for root in roots:
            named = {unit for unit in every if f"{_path(unit)}.".startswith(f"{root}.")}
            if not named:
                raise ValueError(f"{root} is no package, module or function: has it another name?")
            left |= named
        created = {(unit.module, unit.owner) for unit in left}
        found: set[Unit] = set()
        called: set[Unit] = set()
        while left:
            found |= left
            for unit in left:
                created |= self._created_by(unit)
                called |= set(self._called_by(unit))
            left = {u for u in called if not u.owner or (u.module, u.owner) in created} - found
        return found

    def _created_by(self, unit: Unit) -> set[_Class]:
        """Return the classes that a function names outside of annotations, with their bases."""
        found: set[_Class] = set()
        for node in _nodes_of(unit):
            if isinstance(node, ast.Name):
                where, _, name = self._resolved(unit.module, node.id).rpartition(".")
                if where in self.modules and name in self.modules[where].bases:
                    found |= self._with_bases(where, name)
        return found

    def _called_by(self, unit: Unit) -> Iterator[Unit]:
        nodes = list(_nodes_of(unit))
        awaited = [node.value for node in nodes if isinstance(node, ast.Await)]
        waits_for = {id(each.func) for each in awaited if isinstance(each, ast.Call)}
        for node in nodes:
            if isinstance(node, ast.Name):
                yield from self._named(unit.module, node.id)
            elif isinstance(node, ast.Attribute):
                is_async = node.attr not in _COMMON or id(node) in waits_for
                yield from (each for each in self._meant(unit, node) if is_async)

    def _meant(self, unit: Unit, node: ast.Attribute) -> Iterator[Unit]:
        """Yield the functions that an attribute may mean."""
        alias = node.value.id if isinstance(node.value, ast.Name) else ""
        if alias in {"self", "cls"} and unit.owner:
            classes = self._with_bases(unit.module, unit.owner)
        else:
            classes = self._scope(unit.module)
            yield from self._in_module(unit.module, alias, node.attr)
        for module, owner in classes:
            yield from self._methods(module, owner, node.attr)

    def _named(self, module: str, name: str) -> Iterator[Unit]:
        """Yield the function, or what the creation of the class calls, that a name stands for."""
        where, _, name = self._resolved(module, name).rpartition(".")
        for unit in self.modules[where].units if where in self.modules else ():
            created = unit.owner == name and unit.name.startswith("__")
            if created or (not unit.owner and unit.name == name):
                yield unit

    def _in_module(self, module: str, alias: str, name: str) -> Iterator[Unit]:
        """Yield the function `name` of a module that was imported whole."""
        where = self.modules[module].imported.get(alias, "")
        if where in self.modules:
            yield from self._named(where, name)

    def _methods(self, module: str, owner: str, name: str) -> Iterator[Unit]:
        return (u for u in self.modules[module].units if u.owner == owner and u.name == name)

    def _resolved(self, module: str, name: str) -> str:
        found = self.modules[module].imported.get(name)
        return found or f"{module}.{name}"

    def _with_bases(self, module: str, owner: str) -> set[_Class]:
        found = {(module, owner)}
        for base in self.modules[module].bases.get(owner, ()):
            where, _, name = self._resolved(module, base).rpartition(".")
            if where in self.modules:
                found |= self._with_bases(where, name)
        return found

    def _scope(self, module: str) -> set[_Class]:
        """Return the classes whose methods a module may call: those that it defines or imports, and
        those that their methods return.
        """
        if module not in self._scopes:
            left = [self._resolved(module, name) for name in self.modules[module].imported]
            left += [f"{module}.{name}" for name in self.modules[module].bases]
            found: set[_Class] = set()
            while left:
                where, _, name = left.pop().rpartition(".")
                if where in self.modules and name in self.modules[where].bases:
                    new = self._with_bases(where, name) - found
                    found |= new
                    left += [each for one in new for each in self._returned_by(*one)]
            self._scopes[module] = found
        return self._scopes[module]

    def _returned_by(self, module: str, owner: str) -> Iterator[str]:
        for unit in self.modules[module].units:
            if unit.owner == owner and unit.node.returns is not None:  # type: ignore[attr-defined] # a function
                for node in ast.walk(unit.node.returns):  # type: ignore[attr-defined] # a function
                    if isinstance(node, ast.Name):
                        yield self._resolved(module, node.id)


def commands_of(units: Iterable[Unit]) -> set[str]:
    """Return the commands that these functions send, and those of the scripts that they run."""
    found: set[str] = set()
    for unit in units:
        if unit.module.startswith(f"{STREAM}."):
            found |= set(_commands(unit.node))
            if _drains(unit.node):
                found.add("DEL")  # `_WRITE_FIRST` in script_runner.py, for Redis before 7.0
            for word in _texts(unit.node):
                if word in SCRIPTS:
                    found |= called_by(word)
    return found


def called_by(script: str) -> set[str]:
    """Return the commands that a script calls."""
    found: set[str] = set()
    if script == TRIES_ALL:
        return found
    for literal, command, word in _CALLED.findall(script_text(script)):
        if not literal:
            raise ValueError(f"{script}.lua calls a command whose name is not written there")
        found.add(f"{command} {word}" if command in _CONTAINERS else command)
    return found


def rights() -> dict[str, list[str]]:
    """Return the commands that each role needs."""
    code, found = Code(), {}
    for role, roots in ROLES.items():
        needed = commands_of(code.reached(roots)) | {*CONNECTION, "CLIENT SETINFO"}
        found[role] = sorted(needed - _NEVER_SENT.get(role, set()))
    return found


def listed() -> str:
    """Return the commands that each role needs, a role each line."""
    return "".join(f"{role}: {', '.join(commands)}\n" for role, commands in rights().items())


def users(*, before_7_2: bool = False) -> str:
    """Return a file of users for Redis, without their passwords: nobody can log in as one of them
    before it has one.
    """
    left_out = SINCE_7_2 if before_7_2 else set()
    lines = []
    for role, commands in rights().items():
        names = [name.lower().replace(" ", "|") for name in commands if name not in left_out]
        allowed = " ".join(f"+{name}" for name in names)
        lines.append(f"user hookmill-{role} on resetchannels ~hookmill:* -@all {allowed}\n")
    return "".join(lines)


def _files() -> Iterator[tuple[str, Path]]:
    for package in (
        "receiver", "worker", "hookmill/admin", "hookmill/instrumentation", "hookmill/stream",
    ):  # fmt: skip
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def _module_of(name: str, path: Path) -> Module:
    tree = ast.parse(path.read_text())
    units, bases = [], {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases[node.name] = [ast.unparse(base) for base in node.bases]
            units += [
                Unit(name, node.name, one.name, one) for one in node.body if _is_function(one)
            ]  # type: ignore[attr-defined] # a function
        elif _is_function(node):
            units.append(Unit(name, "", node.name, node))  # type: ignore[attr-defined] # a function
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return Module(units, bases, imported)


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _nodes_of(unit: Unit) -> Iterator[ast.AST]:
    """Yield what a function is made of, without its annotations."""
    left: list[ast.AST] = list(unit.node.body)  # type: ignore[attr-defined] # a function
    while left:
        node = left.pop()
        yield node
        annotation = getattr(node, "annotation", None)
        left += [each for each in ast.iter_child_nodes(node) if each is not annotation]


def _path(unit: Unit) -> str:
    return ".".join(part for part in (unit.module, unit.owner, unit.name) if part)


def _commands(node: ast.AST) -> Iterator[str]:
    """Yield the commands that a function sends: each is written as the first word in capitals of a
    tuple, or of what a function that sends it is called with.
    """
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] in _SENDING:
            parts = each.args
        elif isinstance(each, ast.Tuple):
            parts = each.elts
        else:
            continue
        words = [part.value for part in parts if isinstance(part, ast.Constant)]
        words = [word for word in map(str, words) if re.fullmatch("[A-Z]{2,}", word)]
        if words and words[0] not in _CONTAINERS:
            yield words[0]
        elif len(words) > 1:
            yield " ".join(words[:2])
        elif words:
            raise ValueError(f"{ast.unparse(each)}: write the subcommand behind the command")


def _drains(node: ast.AST) -> bool:
    return any(
        isinstance(each, ast.keyword)
        and each.arg == "drains"
        and not (isinstance(each.value, ast.Constant) and each.value.value is False)
        for each in ast.walk(node)
    )


def _texts(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value
