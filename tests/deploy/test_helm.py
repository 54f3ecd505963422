"""The chart of Helm, by its rendered forms.

Helm renders where it is installed. Elsewhere its output is kept beside the values, with the sum of
the chart that it is of, so a chart that was changed without it fails here. The kept forms were
checked by hand against the schemas of Kubernetes 1.27 and 1.37 and of KEDA's resource. No cluster
has run them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hookmill.config.settings import Settings, variable_of
from tests.deploy.chart import (
    CHART,
    FOLDER,
    KEPT,
    Manifest,
    digest,
    helm,
    manifests,
    render,
    rendered,
    values,
)
from tests.deploy.loading import settings_of
from tests.deploy.reading import ROOT
from worker.main import STOP_STEPS

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")

VARIABLES = {variable_of(name) for name in Settings.model_fields}
EVERYTHING = manifests(rendered("everything").read_text())
SCALED = manifests(rendered("scaled").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def one(kind: str, name: str, among: list[Manifest] = EVERYTHING) -> Manifest:
    (found,) = (each for each in among if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def pods(among: list[Manifest] = EVERYTHING) -> dict[str, Manifest]:
    """The pod of each program."""
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["spec"]
        for each in among
        if each["kind"] in {"Deployment", "StatefulSet"}
    }


def container(pod: Manifest) -> Manifest:
    (only,) = pod["containers"]
    found: Manifest = only
    return found


def environment(pod: Manifest) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(pod)["env"]}


PROGRAMS = sorted(pods())


# --- the rendered forms ----------------------------------------------------------------------


@pytest.mark.parametrize("name", KEPT)
def test_a_rendered_form_is_of_this_chart(name: str) -> None:
    head = rendered(name).read_text().partition("\n")[0]
    assert f" {digest()} " in head, "python -m tests.deploy.chart renders it anew, with helm"


@pytest.mark.external
@needs_helm
@pytest.mark.parametrize("name", [path.name.split(".")[0] for path in FOLDER.glob("*.values.yaml")])
def test_helm_renders_the_chart_and_finds_nothing_wrong(name: str) -> None:
    helm("lint", "--strict", "--values", values(name), CHART)
    made = manifests(render(name))
    assert made
    if name in KEPT:
        assert made == manifests(rendered(name).read_text())


@pytest.mark.external
@needs_helm
def test_helm_refuses_a_spool_whose_receiver_could_be_scaled_in() -> None:
    both = ["--set", "receiver.spool.enabled=true", "--set", "receiver.autoscaling.enabled=true"]
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm("template", "shop", CHART, *both)
    assert "take its spool out of sight" in refused.value.stderr


# --- the values ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.values.yaml")), ids=lambda path: path.name)
def test_the_schema_knows_the_values(path: Any) -> None:
    jsonschema.validate(VALUES, SCHEMA)
    jsonschema.validate(yaml.safe_load(path.read_text()), SCHEMA)


def test_the_schema_has_each_value_and_no_other() -> None:
    def names(value: Any, schema: Manifest) -> None:
        if "properties" in schema:
            assert set(value) == set(schema["properties"]) - {"global"}
            for name, each in value.items():
                names(each, schema["properties"][name])

    names(VALUES, SCHEMA)


@pytest.mark.parametrize(
    "wrong",
    [
        {"recever": {}},
        {"receiver": {"replica": 2}},
        {"receiver": {"replicas": 0}},
        {"worker": {"handlers": "handlers"}},
        {"worker": {"autoscaling": {"kind": "hpa", "min": 0}}},
        {"worker": {"autoscaling": {"kind": "Keda"}}},
        {"receiver": {"secrets": [{"variable": "MARBLE"}]}},
        {"publicUrl": "hooks.example.com"},
        {"ingress": {"paths": ["/"]}},
    ],
)
def test_the_schema_refuses_what_would_not_work(wrong: Manifest) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


# --- the pods --------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pod_has_no_rights(program: str) -> None:
    pod = pods()[program]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container(pod)["resources"]["limits"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pod_sets_only_variables_that_exist_and_each_once(program: str) -> None:
    given = [each["name"].removesuffix("_FILE") for each in container(pods()[program])["env"]]
    assert set(given) <= VARIABLES | {
        "GITHUB_WEBHOOK_SECRET",
        "STRIPE_KEY",
    }  # the values name these
    assert len(set(given)) == len(given)
    assert environment(pods()[program])["HOOKMILL_PREFIX"] == "shop"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_can_read_the_settings_of_its_pod(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(environment(pods()[program]), tmp_path, monkeypatch)
    assert settings.prefix == "shop"
    assert settings.redis_url == "redis://user:pass@redis:6379/0"
    if program == "receiver":
        assert (settings.drain, settings.shutdown) == (5, 30)
        assert settings.marble_webhook_secret is not None


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pod_is_given_the_time_that_its_program_needs_to_stop(program: str) -> None:
    pod = pods()[program]
    needed = float(environment(pod).get("HOOKMILL_SHUTDOWN", "25")) + 2 * STOP_STEPS
    assert pod["terminationGracePeriodSeconds"] >= needed
    assert "preStop" not in str(pod)


def test_a_receiver_takes_deliveries_until_its_nodes_have_heard_of_its_end() -> None:
    given = environment(pods()["receiver"])
    assert float(given["HOOKMILL_SHUTDOWN"]) - float(given["HOOKMILL_DRAIN"]) >= 25
    assert pods(SCALED)["receiver"]["containers"][0]["readinessProbe"]["httpGet"]["port"] == "http"
    strategy = one("Deployment", "shop-receiver", SCALED)["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pod_is_asked_for_its_health_at_a_port_that_it_opens(program: str) -> None:
    only = container(pods()[program])
    ports = {each["name"]: each["containerPort"] for each in only["ports"]}
    assert only["livenessProbe"]["httpGet"]["path"] == "/healthz"
    probes = [only[name] for name in only if name.endswith("Probe")]
    assert {probe["httpGet"]["port"] for probe in probes} <= set(ports)
    given = environment(pods()[program])
    if program != "console":
        assert only["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert str(ports["admin"]) == given["HOOKMILL_ADMIN_PORT"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_secret_is_a_file_in_a_folder_that_is_renewed(program: str) -> None:
    """Kubernetes renews neither a variable nor a file that is mounted by `subPath`."""
    pod = pods()[program]
    mounts = container(pod)["volumeMounts"]
    assert not any("subPath" in mount for mount in mounts)
    assert "secretKeyRef" not in str(pod)
    folders = {mount["name"]: mount["mountPath"] for mount in mounts}
    files = {
        f"{folders[volume['name']]}/{item['path']}"
        for volume in pod["volumes"]
        for source in [volume, *volume.get("projected", {}).get("sources", [])]
        if "secret" in source
        for item in source["secret"]["items"]
    }
    named = {path for name, path in environment(pod).items() if name.endswith("_FILE")}
    assert files == named


def test_no_program_has_a_secret_of_another() -> None:
    def keys(program: str) -> set[str]:
        return set(re.findall(r"'key': '(\w+)'", str(pods()[program])))

    assert keys("receiver") == {"receiver", "marble", "github"}
    assert keys("worker") == {"worker", "key"}
    assert keys("console") == {"operator", "token"}


def test_a_spool_belongs_to_one_receiver() -> None:
    receiver = one("StatefulSet", "shop-receiver")["spec"]
    (claim,) = receiver["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "spool"
    folders = {
        each["name"]: each["mountPath"] for each in container(pods()["receiver"])["volumeMounts"]
    }
    assert environment(pods()["receiver"])["HOOKMILL_SPOOL"] == f"{folders['spool']}/spool"


# --- what stands around them -----------------------------------------------------------------


@pytest.mark.parametrize("among", [EVERYTHING, SCALED], ids=KEPT)
def test_what_selects_pods_selects_those_of_one_program(among: list[Manifest]) -> None:
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in among
        if each["kind"] in {"Deployment", "StatefulSet"}
    }
    for each in among:
        spec = each.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector", {}))
        selector = selector.get("matchLabels", selector)
        if each["kind"] in {"Service", "PodDisruptionBudget", "NetworkPolicy"}:
            chosen = [name for name, own in labels.items() if selector.items() <= own.items()]
            assert chosen == [each["metadata"]["name"].removesuffix("-admin")]


def test_only_the_paths_of_sources_are_published() -> None:
    (rule,) = one("Ingress", "shop")["spec"]["rules"]
    paths = rule["http"]["paths"]
    assert [(path["path"], path["pathType"]) for path in paths] == [
        ("/marble", "Exact"),
        ("/github", "Exact"),
    ]
    assert {path["backend"]["service"]["port"]["name"] for path in paths} == {"http"}
    services = [each for each in EVERYTHING if each["kind"] == "Service"]
    assert {each["spec"].get("type", "ClusterIP") for each in services} == {"ClusterIP"}


def test_the_admin_address_is_for_monitoring_and_keda_alone() -> None:
    for program in ("receiver", "worker"):
        rules = one("NetworkPolicy", f"shop-{program}")["spec"]["ingress"]
        (admin,) = (rule for rule in rules if rule["ports"][0]["port"] == "admin")
        assert len(admin["from"]) == 2
    assert "Egress" in one("NetworkPolicy", "shop-receiver")["spec"]["policyTypes"]


@pytest.mark.parametrize("program", ["receiver", "console"])
def test_a_program_reaches_redis_and_its_sentinels(program: str) -> None:
    rules = one("NetworkPolicy", f"shop-{program}")["spec"]["egress"]
    (to_redis,) = (rule for rule in rules if "to" in rule)
    assert [port["port"] for port in to_redis["ports"]] == [6379, 26379]


@pytest.mark.parametrize(
    ("among", "asked", "target", "activation"),
    [
        (EVERYTHING, "valueLocation", "targetValue", "activationTargetValue"),
        (SCALED, "query", "threshold", "activationThreshold"),
    ],
    ids=["metrics-api", "prometheus"],
)
def test_keda_starts_the_first_worker_for_one_message_and_keeps_one_for_any_that_is_unfinished(
    among: list[Manifest], asked: str, target: str, activation: str
) -> None:
    spec = one("ScaledObject", "shop-worker", among)["spec"]
    assert spec["scaleTargetRef"]["name"] == "shop-worker"
    assert spec["minReplicaCount"] == 0
    assert "fallback" not in spec  # with one, KEDA would not keep the number while Redis is away
    found = {each["name"]: each["metadata"] for each in spec["triggers"]}
    assert 'hookmill_group_runnable_messages{group="main"}' in found["runnable"][asked]
    assert 'hookmill_group_backlog_messages{group="main"}' in found["unfinished"][asked]
    assert found["runnable"][target] == "100"
    assert int(found["unfinished"][target]) >= 1_000_000
    assert {each[activation] for each in found.values()} == {"0"}
    assert {each.get("ignoreNullValues", "false") for each in found.values()} == {"false"}
    documented = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    for name in re.findall(r"hookmill_\w+", str(found)):
        assert f"`{name}`" in documented
    assert "replicas" not in one("Deployment", "shop-worker", among)["spec"]


def test_keda_asks_the_service_of_the_receivers() -> None:
    service = one("Service", "shop-receiver-admin")
    (port,) = service["spec"]["ports"]
    triggers = one("ScaledObject", "shop-worker")["spec"]["triggers"]
    assert {each["metadata"]["url"] for each in triggers} == {
        f"http://{service['metadata']['name']}.hooks.svc:{port['port']}/metrics"
    }
