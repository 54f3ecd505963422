"""The deployment files use only commands, settings and files that exist, and publish little."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from hookmill.config.settings import Settings, variable_of
from tests.chaos.site import MALLOC
from tests.deploy.reading import DEPLOY, ROOT, compose, fly, instructions
from worker.main import STOP_STEPS

VARIABLES = {variable_of(name) for name in Settings.model_fields}
SERVICES = ("balancer", "receiver", "worker", "operator", "console", "redis")
PROGRAMS = ("receiver", "worker")


# --- compose.yaml ----------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
def test_compose_sets_only_variables_that_exist(program: str) -> None:
    service = compose()["services"][program]
    given = {name.removesuffix("_FILE") for name in service["environment"]}
    assert given <= VARIABLES
    assert "REDIS_URL_FILE" in service["environment"]
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace >= int(service["environment"]["HOOKMILL_SHUTDOWN"]) + 2 * STOP_STEPS


@pytest.mark.parametrize("program", PROGRAMS)
def test_compose_gives_a_program_its_secrets_as_files_and_no_more_than_it_needs(
    program: str,
) -> None:
    whole = compose()
    service = whole["services"][program]
    named = {path for path in service["environment"].values() if "/run/secrets" in (path or "")}
    assert named == {f"/run/secrets/{name}" for name in service["secrets"]}
    assert all(whole["secrets"][name]["file"] == f"secrets/{name}" for name in service["secrets"])
    assert set(service["secrets"]) & {"redis_users"} == set()
    assert "environment" not in str(whole["secrets"])
    assert not {"QSTASH_CURRENT_SIGNING_KEY", "MARBLE_WEBHOOK_SECRET", "REDIS_URL"} & set(
        service["environment"]
    )


def test_a_worker_gets_no_secret_of_a_sender() -> None:
    assert compose()["services"]["worker"]["secrets"] == ["redis_url_worker"]


@pytest.mark.parametrize("name", SERVICES)
def test_compose_takes_from_a_service_what_it_does_not_need(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert "privileged" not in service
    assert "cap_add" not in service


def test_compose_publishes_the_balancer_alone_and_keeps_redis_apart() -> None:
    whole = compose()
    services = whole["services"]
    assert services["console"]["ports"] == ["127.0.0.1:8090:8090"]
    assert {name for name in services if "ports" in services[name]} == {"balancer", "console"}
    networks = {name: set(service["networks"]) for name, service in services.items()}
    assert networks == {
        "balancer": {"edge"},
        "receiver": {"edge", "inside"},
        "worker": {"inside", "outgoing"},
        "operator": {"inside"},
        "console": {"inside", "browsers"},
        "redis": {"inside"},
    }
    assert whole["networks"]["inside"] == {"internal": True}


def test_redis_loses_no_accepted_message_and_lets_in_nobody_without_a_password() -> None:
    command = compose()["services"]["redis"]["command"]
    for part in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert part in command
    assert "--aclfile /run/secrets/redis_users" in command


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_health_check_asks_the_admin_address_that_the_service_opens(program: str) -> None:
    service = compose()["services"][program]
    kind, *command = service["healthcheck"]["test"]
    assert (kind, command) == ("CMD", ["hookmill", "health", "--ready"])
    assert int(service["environment"]["HOOKMILL_ADMIN_PORT"]) > 0
    assert "HOOKMILL_ADMIN_HOST" not in service["environment"]


def test_the_spool_is_on_a_volume_that_a_program_may_write_to() -> None:
    receiver = compose()["services"]["receiver"]
    volume, _, folder = receiver["volumes"][0].partition(":")
    assert volume in compose()["volumes"]
    assert receiver["environment"]["HOOKMILL_SPOOL"].startswith(f"{folder}/")
    made = [rest for word, rest in instructions("Dockerfile")[-1] if word == "RUN"]
    assert any(rest.endswith(f"&& install -d -o 65532 -g 65532 -m 700 {folder}") for rest in made)


def test_the_console_asks_for_its_token() -> None:
    console = compose()["services"]["console"]
    given = {name.removesuffix("_FILE") for name in console["environment"]}
    assert given <= VARIABLES
    assert console["environment"]["HOOKMILL_CONSOLE_TOKEN_FILE"] == "/run/secrets/console_token"
    assert console["healthcheck"]["test"] == ["CMD", "hookmill", "health", "console"]
    assert console["profiles"] == ["console"]


# --- compose.metrics.yaml --------------------------------------------------------------------


def test_prometheus_asks_each_program_in_a_network_of_its_own() -> None:
    base, added = compose(), compose("compose.metrics.yaml")
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    (found,) = config["scrape_configs"][0]["dns_sd_configs"]
    assert found["names"] == list(PROGRAMS)
    for program in PROGRAMS:
        assert int(base["services"][program]["environment"]["HOOKMILL_ADMIN_PORT"]) == found["port"]
        assert added["services"][program] == {
            "networks": ["metrics"],
            "environment": {"HOOKMILL_ADMIN_HOST": "0.0.0.0"},
        }
    assert "metrics" not in base["networks"]


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_what_shows_the_metrics_is_hardened_too_and_this_machine_alone_reaches_it(
    name: str,
) -> None:
    service = compose("compose.metrics.yaml")["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["networks"] == ["metrics"]
    paths = [volume.split(":")[0] for volume in service["volumes"]]
    assert all((DEPLOY / path).is_file() for path in paths if path.startswith("."))


@pytest.mark.external
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong_with_the_configuration() -> None:
    path = DEPLOY / "prometheus" / "prometheus.yaml"
    done = subprocess.run(
        ["promtool", "check", "config", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.external
def test_docker_can_read_the_compose_files() -> None:
    words = [
        "docker",
        "compose",
        "-f",
        "compose.yaml",
        "-f",
        "compose.metrics.yaml",
        "config",
        "-q",
    ]
    if (
        shutil.which("docker") is None
        or subprocess.run([*words[:2], "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("docker compose is not installed")
    done = subprocess.run(words, cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- fly.toml --------------------------------------------------------------------------------


def test_fly_runs_both_programs_and_asks_readiness() -> None:
    config = fly()
    assert config["processes"] == {"receiver": "receiver", "worker": "worker handlers:handlers"}
    assert config["http_service"]["processes"] == ["receiver"]
    assert config["http_service"]["checks"][0]["path"] == "/readyz"
    assert config["http_service"]["internal_port"] == int(config["env"]["PORT"])
    assert set(config["env"]) <= VARIABLES | MALLOC.keys()
    assert config["env"].items() >= MALLOC.items()  # a soak judges the memory of programs so
    assert config["kill_timeout"] >= int(config["env"]["HOOKMILL_SHUTDOWN"]) + 2 * STOP_STEPS


def test_fly_publishes_no_admin_port_and_asks_the_worker_there() -> None:
    config = fly()
    port = int(config["env"]["HOOKMILL_ADMIN_PORT"])
    assert config["checks"]["worker"]["port"] == port
    assert config["checks"]["worker"]["processes"] == ["worker"]
    assert config["checks"]["worker"]["path"] == "/readyz"
    assert config["http_service"]["internal_port"] != port
    assert "services" not in config


def test_fly_scrapes_the_admin_address() -> None:
    config = fly()
    assert config["metrics"]["port"] == int(config["env"]["HOOKMILL_ADMIN_PORT"])
    assert config["restart"] == [{"policy": "always"}]
    assert "HOOKMILL_SPOOL" not in config["env"]  # a new volume belongs to root


def autoscaler() -> dict[str, Any]:
    return tomllib.loads((DEPLOY / "fly.autoscaler.toml").read_text())


def test_the_autoscaler_starts_workers_of_this_application() -> None:
    given = autoscaler()["env"]
    assert given["FAS_APP_NAME"] == fly()["app"]
    assert given["FAS_PROCESS_GROUP"] in fly()["processes"]
    assert given["FAS_STARTED_MACHINE_COUNT"] == f"ceil({given['FAS_PROMETHEUS_METRIC_NAME']})"


@pytest.mark.external
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_autoscaler_has_a_worker_as_long_as_anything_is_unfinished(tmp_path: Path) -> None:
    """Each case: what could run, what is unfinished, and the machines that this asks for."""
    cases = [
        (0, 0, 0.0),
        (0, 1, 1.0),
        (1, 1, 1.0),
        (100, 100, 1.0),
        (250, 900, 2.5),
        (None, None, None),
    ]
    labels = '{app="hookmill", group="main", instance="r%d"}'
    tests = []
    for runnable, unfinished, machines in cases:
        said = {"runnable": runnable, "backlog": unfinished}
        series = [
            {
                "series": f"hookmill_group_{name}_messages{labels % receiver}",
                "values": f"{number}+0x9",
            }
            for name, number in said.items()
            for receiver in range(2)  # both say the same
            if number is not None
        ]
        expected = [] if machines is None else [{"labels": "{}", "value": machines}]
        query = autoscaler()["env"]["FAS_PROMETHEUS_QUERY"]
        asked = [{"expr": query, "eval_time": "5m", "exp_samples": expected}]
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": asked})
    path = tmp_path / "query.json"  # JSON is YAML
    path.write_text(json.dumps({"rule_files": [], "tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- the image -------------------------------------------------------------------------------


def test_an_init_collects_the_processes_that_handlers_leave_behind() -> None:
    """A worker that was PID 1 had 50 zombies."""
    final = dict(instructions("Dockerfile")[-1])
    assert final["ENTRYPOINT"] == '["tini", "-s", "--", "hookmill"]'
    assert "apt-get install -y --no-install-recommends tini " in str(instructions("Dockerfile"))


def test_the_image_copies_what_the_package_needs_and_no_handlers() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    copied = [name for line in sources for name in line.split()]
    assert {"hookmill", "receiver", "worker", "locks/production.txt", "pyproject.toml"} <= set(
        copied
    )
    assert all((ROOT / name).exists() for name in copied)
    let_through = re.findall(
        r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE
    )
    assert set(let_through) == set(copied)
    assert "examples" not in dockerfile


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.handlers"])
def test_an_image_runs_as_a_user_that_is_a_number(dockerfile: str) -> None:
    """Kubernetes' `runAsNonRoot` accepts no name."""
    users = [rest for word, rest in instructions(dockerfile)[-1] if word == "USER"]
    assert users[-1] == "65532:65532"


def test_git_does_not_see_the_folder_of_secrets() -> None:
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_compose_file_names_every_source_that_the_balancer_passes_on() -> None:
    passed = set(re.findall(r"acl a_source path (\S+)", (DEPLOY / "haproxy.cfg").read_text()))
    given: dict[str, Any] = compose()["services"]["receiver"]["environment"]
    names = {"QSTASH_CURRENT_SIGNING_KEY_FILE": "/qstash", "MARBLE_WEBHOOK_SECRET_FILE": "/marble"}
    assert passed == {path for name, path in names.items() if name in given}


def test_the_scripts_of_the_deployment_are_posix_shell() -> None:
    subprocess.run(["sh", "-n", DEPLOY / "make-secrets"], check=True)
    assert (DEPLOY / "make-secrets").stat().st_mode & 0o111
