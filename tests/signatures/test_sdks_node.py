"""The SDKs of GitHub and QStash on Node as the other side."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import qstash
from multidict import CIMultiDict
from qstash.errors import SignatureError

from hookmill.signatures import Scheme, Signed, Verified
from hookmill.signatures.qstash import QStash
from tests.node import node_with
from tests.signatures.senders import NOW, delivery, scheme_of

# As long as QStash's own: PyJWT warns of shorter ones.
CURRENT_KEY = "sig_3nj4aiyJ2JojDnQ1RRodpYubZAZxAJxNfQcRSKPwVUNbueYk2o"
NEXT_KEY = "sig_31zVqmL3s7Eo1vpu1jRSMpaetJXvAT3RvNcfoGUp1Toii8fsQE"
STRANGERS_KEY = "sig_6sG1V9Xq0ZbYw3TnRfKc8eLhJpQmUd2A5oEiWx7yNuBvHtPa4"
PUBLIC_URL = "https://app.example"
QSTASH = QStash([CURRENT_KEY, NEXT_KEY], public_url=PUBLIC_URL)


class Case(NamedTuple):
    """What is given to a verifier on Node, and what ours says to it."""

    what: str
    given: dict[str, Any]
    expected: bool


VERIFIERS = """
import { readFileSync } from "node:fs";
import { sign, verify } from "@octokit/webhooks-methods";
import { Receiver } from "@upstash/qstash";

const verdict = {
  sign: async ({ secret, body }) => sign(secret, body),
  github: async ({ secret, body, signature }) => verify(secret, body, signature),
  qstash: async ({ current, next, ...given }) =>
    new Receiver({ currentSigningKey: current, nextSigningKey: next }).verify(given),
};
const answers = [];
for (const { what, given } of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    answers.push(await verdict[what](given));
  } catch {
    answers.push(false);
  }
}
console.log(JSON.stringify(answers));
"""


@pytest.fixture(scope="session")
def on_node(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[list[Case]], list[Any]]:
    """What the SDKs on Node answer, all in one process."""
    folder = tmp_path_factory.mktemp("node")
    program = tmp_path_factory.mktemp("program") / "verifiers.mjs"
    program.write_text(VERIFIERS)
    node = node_with(folder, program, "@octokit/webhooks-methods@6", "@upstash/qstash@2")

    def run(cases: list[Case]) -> list[Any]:
        given = [{"what": case.what, "given": case.given} for case in cases]
        answers: list[Any] = node.ask(program.name, given)
        return answers

    return run


GITHUB_BODIES = ['{"foo":"bar"}', "Hello, World!", '{"\u00fc":"\u2603"}', "a\n", "0"]


def octokit(body: str, signature: str, secret: str = "mysecret") -> Case:
    scheme: Scheme = scheme_of("github", secret)
    signed = delivery(body.encode(), {"X-Hub-Signature-256": signature})
    is_ours = isinstance(scheme.verify(signed, NOW), Verified)
    return Case("github", {"secret": secret, "body": body, "signature": signature}, is_ours)


@pytest.mark.external
def test_octokit_signs_and_verifies_as_we_do(on_node: Callable[[list[Case]], list[Any]]) -> None:
    signing = [Case("sign", {"secret": "mysecret", "body": body}, True) for body in GITHUB_BODIES]
    for body, signature in zip(GITHUB_BODIES, on_node(signing), strict=True):
        signed = scheme_of("github", "mysecret").sign(delivery(body.encode()), NOW)
        assert signed.headers["X-Hub-Signature-256"] == signature
        assert octokit(body, signature).expected
    body = GITHUB_BODIES[0]
    (genuine,) = on_node(signing[:1])
    cases = [octokit(body, genuine), octokit(body + " ", genuine), octokit("", genuine)]
    cases += [octokit(body, genuine, "other"), octokit(body, genuine.upper())]
    for change in (
        "",
        "sha256=",
        genuine[7:],
        genuine + "0",
        genuine[:-1],
        f" {genuine}",
        "\u00fc",
    ):
        cases.append(octokit(body, change))
    for place in range(len(genuine)):
        other = "0" if genuine[place] != "0" else "1"
        cases.append(octokit(body, genuine[:place] + other + genuine[place + 1 :]))
    assert on_node(cases) == [case.expected for case in cases]
    assert sum(case.expected for case in cases) == 1


def test_octokit_reads_the_body_as_text_where_we_take_its_bytes() -> None:
    # GitHub's deliveries are UTF-8; anything else verifies here under its own bytes.
    signed = scheme_of("github", "mysecret").sign(delivery(b"\xff"), NOW)
    assert scheme_of("github", "mysecret").verify(signed, NOW) == Verified(0)


def qstash_delivery(body: str, target: str = "/qstash", key: str = CURRENT_KEY) -> tuple[str, str]:
    """A token of ours, and the URL it is for."""
    scheme = QStash([key], public_url=PUBLIC_URL)
    plain = Signed(CIMultiDict(), body.encode(), target)
    return scheme.sign(plain, time.time()).headers["Upstash-Signature"], PUBLIC_URL + target


def qstash_cases() -> list[Case]:
    body = '{"hello":"w\u00f6rld"}'
    token, url = qstash_delivery(body)
    rotated, _ = qstash_delivery(body, key=NEXT_KEY)
    foreign, _ = qstash_delivery(body, key=STRANGERS_KEY)
    head, payload, signature = token.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    variants = [
        *((token, body, url), (rotated, body, url), (foreign, body, url)),
        *((token, body + " ", url), (token, "", url), (token, body, url + "/other")),
        *((token, body, url + "?a=1"), ("", body, url), (f"{head}.{payload}.", body, url)),
        *((f"{unsigned}.{payload}.", body, url), (f"{head}.{payload}", body, url)),
        *((token[:-4], body, url), (token.upper(), body, url), (token + ".x", body, url)),
        *((f"{head}.{payload}.{signature[::-1]}", body, url),),
    ]
    for place in range(0, len(token), 5):
        other = "A" if token[place] != "A" else "B"
        variants.append((token[:place] + other + token[place + 1 :], body, url))
    cases = []
    for value, text, address in variants:
        signed = Signed(
            CIMultiDict({"Upstash-Signature": value}),
            text.encode(),
            address.removeprefix(PUBLIC_URL),
        )
        is_ours = isinstance(QSTASH.verify(signed, time.time()), Verified)
        given = {"signature": value, "body": text, "url": address}
        cases.append(Case("qstash", {"current": CURRENT_KEY, "next": NEXT_KEY, **given}, is_ours))
    assert sum(case.expected for case in cases) == 2
    return cases


@pytest.mark.external
def test_qstashs_receiver_on_node_agrees(on_node: Callable[[list[Case]], list[Any]]) -> None:
    cases = qstash_cases()
    assert on_node(cases) == [case.expected for case in cases]


def test_qstashs_receiver_in_python_agrees() -> None:
    receiver = qstash.Receiver(CURRENT_KEY, NEXT_KEY)
    for case in qstash_cases():
        given = {name: case.given[name] for name in ("signature", "body", "url")}
        try:
            receiver.verify(**given)
        except SignatureError:
            assert not case.expected, given
        else:
            assert case.expected, given
