"""Every code block of README and docs is run (by the files beside this one), or says why not."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import typer
import yaml

from hookmill.cli.main import app
from tests.docs.pages import PAGES, blocks_of, name_of, without_blocks
from tests.docs.runner import commands_of

LANGUAGES = {
    "sh",
    "python",
    "toml",
    "json",
    "yaml",
    "text",
    "dockerfile",
    "{toctree}",
    "{eval-rst}",
}
"""`text` is what programs write, or a drawing. The last two are Sphinx' own."""

INSTALLS = "it would install the last release, not this code"
NOT_RUN = {
    ("README.md", "pip install hookmill"): INSTALLS,
    ("docs/explanation/performance.md", "make bench"): (
        "it takes forty minutes, and wants the machine for itself"
    ),
    ("docs/explanation/performance.md", "make bench VENV=.bench/pgo PYTHON=/usr/bin/python3.11"): (
        "it takes forty minutes, and wants the machine for itself"
    ),
    ("docs/how-to/deploy-compose.md", "deploy/make-secrets"): "needs Docker",
    ("docs/how-to/deploy-compose.md", "export EXTRAS=metrics"): "needs Docker",
    ("docs/how-to/deploy-compose.md", "export EXTRAS=console,metrics"): "needs Docker",
    (
        "docs/how-to/deploy-compose.md",
        "docker compose -f deploy/compose.yaml build",
    ): "needs Docker",
    ("docs/how-to/scale.md", "hookmill receiver --processes auto"): (
        "it would start eight programs; `tests/e2e/test_processes.py` runs such a fleet"
    ),
    ("docs/how-to/deploy.md", "FROM hookmill"): "needs Docker",
    (
        "docs/how-to/deploy-systemd.md",
        "apt-get install -y python3-venv redis-server haproxy",
    ): "it would install packages on this machine",
    (
        "docs/how-to/deploy-systemd.md",
        "deploy/make-secrets 127.0.0.1:6379 redis/users-before-7.2.acl",
    ): "it would change the Redis of this machine",
    (
        "docs/how-to/deploy-systemd.md",
        "for role in receiver worker; do",
    ): "it needs the users of the first step",
    (
        "docs/how-to/deploy-systemd.md",
        "systemctl enable --now hookmill-receiver@1 hookmill-receiver@2",
    ): "it needs a machine whose first process is systemd",
    (
        "docs/how-to/deploy-systemd.md",
        "REDIS_URL_FILE=deploy/secrets/redis_url_operator /opt/hookmill/bin/hookmill check",
    ): "it needs the Redis of the second step",
    (
        "docs/how-to/deploy-systemd.md",
        "cat fullchain.pem privkey.pem | install -m 600 /dev/stdin /etc/haproxy/hookmill.pem",
    ): "it needs a certificate for the machine's name",
    (
        "docs/how-to/deploy-systemd.md",
        "/opt/hookmill/bin/pip install --no-deps --no-build-isolation .",
    ): "it needs the units of the first step",
    (
        "docs/how-to/deploy-systemd.md",
        "systemctl edit hookmill-worker@.service",
    ): "it opens an editor",
    (
        "docs/how-to/deploy-kubernetes.md",
        "docker build -f deploy/Dockerfile --build-arg EXTRAS=metrics -t hookmill .",
    ): "needs Docker and a registry",
    ("docs/how-to/deploy-kubernetes.md", "kubectl create namespace hooks"): "needs a cluster",
    (
        "docs/how-to/deploy-kubernetes.md",
        "helm upgrade --install shop deploy/helm/hookmill --namespace hooks --values values.yaml",
    ): "needs a cluster",
    ("docs/how-to/deploy-fly.md", "fly apps create hookmill"): "needs an account at Fly",
    (
        "docs/how-to/deploy-fly.md",
        "docker build -f deploy/Dockerfile --build-arg EXTRAS=metrics -t hookmill .",
    ): "needs an account at Fly",
    ("docs/how-to/deploy-fly.md", "fly logs --app hookmill"): "needs an account at Fly",
    (
        "docs/how-to/deploy-fly.md",
        "fly scale count --app hookmill worker=20",
    ): "needs an account at Fly",
    ("docs/how-to/develop-offline.md", "hookmill dev"): (
        "the tutorial runs it with handlers of its own, the README with samples"
    ),
    ("docs/how-to/develop-offline.md", "python examples/guide.py"): (
        "`tests/e2e/test_guide.py` runs it"
    ),
    ("docs/how-to/limit-redis-rights.md", "for role in receiver worker operator console; do"): (
        "needs the files of the repository; `tests/docs/test_procedures.py` does the same"
    ),
    (
        "docs/how-to/pause.md",
        'hookmill pause --handler send_receipt --why "the mail provider is down"',
    ): "it needs a worker with this handler; tests/cli/test_pauses.py runs these commands",
    (
        "docs/how-to/redis-cluster-and-sentinel.md",
        "export REDIS_URL='redis+sentinel://:PASSWORD@sentinel-1,sentinel-2,sentinel-3/main'",
    ): "it needs three sentinels; `tests/e2e/test_sentinel.py` does the same",
    (
        "docs/how-to/redis-cluster-and-sentinel.md",
        "export REDIS_URL='redis+cluster://:PASSWORD@node-1:6379,node-2:6379,node-3:6379'",
    ): "it needs a cluster; `tests/e2e/test_cluster_receiver.py` does the same",
    (
        "docs/how-to/redis-cluster-and-sentinel.md",
        "partition 2 of node-2:6379 cannot be asked: no answer within 2 s; it is missing below",
    ): "a node of a cluster has to stand still for it; `tests/admin/test_cluster.py` does the same",
    (
        "docs/how-to/trace-messages.md",
        "pip install 'hookmill[otel]' opentelemetry-sdk opentelemetry-exporter-otlp-proto-http",
    ): INSTALLS,
    ("docs/how-to/trace-messages.md", "export HOOKMILL_TRACES=joined"): (
        "needs a collector; `tests/e2e/test_traces.py` does the same"
    ),
    ("docs/how-to/find-a-message.md", "hookmill message msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"): (
        "needs messages with these IDs; `tests/cli/test_message.py` does the same"
    ),
    ("docs/how-to/remove-a-group.md", "hookmill group list"): (
        "needs a group with workers; `tests/docs/test_procedures.py` does the same"
    ),
    ("docs/how-to/remove-a-group.md", "hookmill group drop analytics"): (
        "needs a group; `tests/docs/test_procedures.py` does the same"
    ),
    ("docs/how-to/debug-a-signature.md", "hookmill refused list"): (
        "it needs a delivery that was refused"
    ),
    ("docs/how-to/watch-deliveries.md", "hookmill tail --source shop --type 'order.*'"): (
        "it ends with Ctrl-C"
    ),
    ("docs/how-to/watch-deliveries.md", "hookmill forward http://localhost:3000 --source shop"): (
        "it needs a program that listens there"
    ),
    ("docs/tutorial/first-handler.md", "mkdir blog && cd blog"): INSTALLS,
}
"""Page and first line, and the reason. Add each new mark here as well."""


def test_each_block_that_is_not_run_is_listed_here_with_its_reason() -> None:
    marked = {
        (
            name_of(page),
            block.text.partition("\n")[0].partition("  #")[0].strip(),
        ): block.why_not_run
        for page in PAGES
        for block in blocks_of(page)
        if block.why_not_run
    }
    assert marked == NOT_RUN


def test_each_block_of_yaml_can_be_read() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            if block.language == "yaml":
                assert yaml.safe_load(block.text), block.where


def test_each_block_names_its_language_and_its_mark_is_known() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            assert block.language in LANGUAGES, block.where
            known = block.why_not_run or block.file or block.is_output or block.exit_status
            is_generated = re.fullmatch(r"/?[a-z]+", block.mark)
            assert not block.mark or known or is_generated, f"{block.where}: {block.mark}"


def test_each_command_that_a_page_names_exists_with_its_options() -> None:
    named = 0
    for page in PAGES:
        commands = [
            command
            for block in blocks_of(page)
            if block.language == "sh"
            for command in commands_of(block.text)
        ]
        commands += re.findall(r"`(hookmill [^`]+)`", without_blocks(page))
        for command in commands:
            for words in re.findall(r"(?:^|\$\()hookmill((?: +[^\s|#;)]+)+)", command):
                check_command(words.split(), f"{name_of(page)}: {command}")
                named += 1
    assert named > 50


def check_command(words: list[str], where: str) -> None:
    """Follow the words down the tree of commands; each option must be one of the command's."""
    command = tree()
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        names = words.pop(0).split("/")  # `hookmill dead list/show`
        if names[0].isupper():  # COMMAND stands for any
            return
        assert all(name in command.commands for name in names), where
        command = command.commands[names[0]]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known, where


@cache
def tree() -> Any:
    return typer.main.get_command(app)
