"""The table of rules fits the code. `make rules` tries the rules themselves."""

from __future__ import annotations

import ast

import pytest

from tests.rules import ROOT, RULES, Edit, fault_of

EDITS = [edit for rule in RULES for edit in rule.edits]
TESTS = sorted({test for rule in RULES for test in rule.tests})


def test_every_rule_is_there() -> None:
    assert {rule.number for rule in RULES} >= set(range(1, 21))
    assert [rule.number for rule in RULES] == sorted(rule.number for rule in RULES)
    says = [(rule.number, rule.says) for rule in RULES]
    assert len(set(says)) == len(says)


def test_every_rule_has_an_edit_that_changes_something_and_a_test() -> None:
    for rule in RULES:
        assert rule.tests, rule.says
        assert rule.edits, rule.says
        assert all(edit.old != edit.new for edit in rule.edits), rule.says


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.file)
def test_the_text_that_an_edit_replaces_occurs_exactly_once(edit: Edit) -> None:
    assert not fault_of(edit)


@pytest.mark.parametrize("test", TESTS)
def test_every_test_that_has_to_fail_exists(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    names = [
        one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert names.count(name) == 1
