"""Templates: every value is escaped, and none makes a page fail."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookmill.console.rendering import FOLDER, Renderer, in_url

TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))
RENDERER = Renderer()
ERROR = {
    "viewer": {"role": None}, "path": "/", "navigation": (), "live": "", "needs_login": True,
    "code": 400,
}  # fmt: skip

# Halves of surrogate pairs belong to any text: a body of JSON can bring them.
ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_any_text_is_shown_and_is_no_markup(text: str) -> None:
    page = RENDERER.render("error.html", {**ERROR, "text": f"<{text}>"})
    page.encode()
    found = re.search(r'role="alert">(.*?)</p>', page, re.DOTALL)
    assert found
    assert "<" not in found[1]
    assert html.unescape(found[1]).startswith("<")


@given(ANY_TEXT)
def test_a_form_sends_back_what_it_was_given(text: str) -> None:
    whole = text.encode("utf-8", "replace").decode().replace("\r", "").replace("\0", "")
    page = RENDERER.render("login.html", {**ERROR, "once": whole + "x", "is_over": False,
                                          "has_tokens": True})  # fmt: skip
    found = re.search(r'name="token" value="([^"]*)"', page, re.DOTALL)
    assert found
    assert html.unescape(found[1]) == whole + "x"


@given(ANY_TEXT)
def test_any_text_can_be_a_part_of_an_address(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.~%-]*", in_url(text))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_nothing_inline_and_no_way_around_the_escapes(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined] # a path
    assert not re.search(r"\|\s*(safe|tojson)|autoescape|Markup", text)
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert not re.search(r"\s[a-z-]+=\{\{", text), "an attribute without quotes"
    for address in re.findall(r'(?:href|action|src)="([^"]+)', text):
        assert address.startswith(
            ("/", "#", "{{ address }}", "{{ path }}", "{{ job.back }}", "{{ href }}")
        )
