"""The mini-cluster: valid for docker-compose 1.29, closed to the outside, started in an order that works."""

import ast
import copy
import importlib.util
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.scripts.scripts import start as ray_start

HERE = Path(__file__).parent
DOCKER = HERE.parents[1] / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
RAY_SERVICES = sorted(name for name, service in SERVICES.items() if service["command"][0] == "ray")
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rule>:[-?])(?P<text>[^}]*)\}")


def schema_errors(document: dict) -> list[str]:
    schema = json.loads((HERE / "compose_spec.json").read_text())
    return [error.message for error in jsonschema.Draft201909Validator(schema).iter_errors(document)]


def settings(service: dict) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def with_defaults(text: str) -> str:
    """What compose makes of a value when only the required variables are set."""
    return VARIABLE.sub(lambda match: match["text"] if match["rule"] == ":-" else "given", text)


def test_the_composition_fits_the_schema_of_docker_compose_1_29():
    assert COMPOSE["version"] == "3.8"
    assert schema_errors(COMPOSE) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("servces",), {}),
        (("services", "head", "comand"), ["ray"]),
        (("services", "head", "ports"), "8265:8265"),
        (("services", "head", "healthcheck", "intervall"), "5s"),
        (("services", "decode", "depends_on", "head", "condition"), "service_ready"),
        (("services", "trainer", "deploy", "replicas"), "two"),
    ],
)
def test_a_mistake_in_the_composition_is_caught_by_the_schema(place, value):
    broken = copy.deepcopy(COMPOSE)
    *parents, key = place
    target = broken
    for parent in parents:
        target = target[parent]
    target[key] = value
    assert schema_errors(broken)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_published_port_listens_on_this_machine_alone(name):
    for port in SERVICES[name].get("ports", []):
        assert str(port).startswith("127.0.0.1:"), f"{name} publishes {port}; write 127.0.0.1:{port}"


def test_only_the_dashboard_and_the_object_store_are_published():
    published = {
        str(port).split(":")[-1] for service in SERVICES.values() for port in service.get("ports", [])
    }
    assert published == {"8265", "9000", "9001"}


@pytest.mark.parametrize("name", RAY_SERVICES)
def test_a_ray_node_does_not_start_without_a_token(name):
    environment = settings(SERVICES[name])
    assert environment["RAY_AUTH_MODE"] == "token"
    assert VARIABLE.fullmatch(environment["RAY_AUTH_TOKEN"])["rule"] == ":?"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_secret_is_asked_for_and_none_is_written_down(name):
    for key, value in settings(SERVICES[name]).items():
        if re.search("TOKEN|KEY|PASSWORD|SECRET|ROOT_USER", key):
            match = VARIABLE.fullmatch(value)
            assert match, f"{name}: {key} is written into the file"
            assert match["rule"] == ":?", f"{name}: {key} has a default"
            assert match["name"] in match["text"], f"{name}: the refusal does not name {match['name']}"


def test_the_example_environment_names_what_the_composition_asks_for():
    example = (DOCKER / ".env.example").read_text()
    asked = {
        match["name"]: match["rule"] for match in VARIABLE.finditer((DOCKER / "compose.yaml").read_text())
    }
    required = {name for name, rule in asked.items() if rule == ":?"}
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == required
    optional = set(re.findall(r"^# (\w+)=.+$", example, re.MULTILINE))
    assert optional <= asked.keys() - required


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_watched_or_runs_once(name):
    service = SERVICES[name]
    if service["healthcheck"].get("disable"):
        waiting = [other.get("depends_on", {}).get(name, {}) for other in SERVICES.values()]
        assert {"condition": "service_completed_successfully"} in waiting, f"nobody waits for {name} to end"
        assert service["restart"] == "no"
    else:
        assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_waits_only_for_what_can_come_true(name):
    for other, rule in SERVICES[name].get("depends_on", {}).items():
        runs_once = bool(SERVICES[other]["healthcheck"].get("disable"))
        expected = "service_completed_successfully" if runs_once else "service_healthy"
        assert rule == {"condition": expected}, f"{name} waits for {other} to be {rule}"


@pytest.mark.parametrize("name", RAY_SERVICES)
def test_ray_accepts_the_command_of_each_node(name):
    program, verb, *options = [with_defaults(word) for word in SERVICES[name]["command"]]
    assert (program, verb) == ("ray", "start")
    given = ray_start.make_context("ray start", options).params
    assert given["block"], f"{name} would start Ray in the background and leave at once"
    assert given["head"] != bool(given["address"]), "a node is the head or joins one"
    assert json.loads(given["resources"]).keys() <= {name}


def test_every_worker_joins_the_head_at_the_port_it_opens():
    port = ray_start.make_context("ray start", SERVICES["head"]["command"][2:]).params["port"]
    for name in set(RAY_SERVICES) - {"head"}:
        assert f"--address=head:{port}" in SERVICES[name]["command"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_inline_python_compiles_and_imports_what_is_installed(name):
    for words in (SERVICES[name]["command"], SERVICES[name]["healthcheck"].get("test", [])):
        if "-c" in words:
            tree = ast.parse(with_defaults(words[words.index("-c") + 1]))
            names = [
                alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
            ]
            assert names
            assert all(importlib.util.find_spec(module) for module in names)


def test_decode_workers_hold_the_decode_resource_and_the_head_computes_nothing():
    head, decode = (
        ray_start.make_context(
            "ray start", [with_defaults(word) for word in SERVICES[name]["command"][2:]]
        ).params
        for name in ("head", "decode")
    )
    assert head["num_cpus"] == 0
    assert json.loads(decode["resources"])["decode"] == decode["num_cpus"] > 0
