"""The cluster files: accepted by what will read them, guarded by the token, and sized as they say."""

import copy
import json
import re
import shlex
from pathlib import Path

import botocore.session
import botocore.validate
import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start as ray_start

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLUSTER = ROOT / "cluster"
LAUNCHED = ["aws.yaml", "gcp.yaml"]
KUBERNETES = ["kuberay/raycluster.yaml", "kuberay/rayjob.yaml"]


def read(name: str) -> dict:
    return yaml.safe_load((CLUSTER / name).read_text())


def with_mistake(document: dict, place: tuple, value: object) -> dict:
    """A copy with one value set, deep inside."""
    broken = copy.deepcopy(document)
    *parents, key = place
    target = broken
    for parent in parents:
        target = target[parent]
    target[key] = value
    return broken


def launch(document: dict) -> dict:
    """What `ray up` does with a file before it calls the cloud."""
    prepared = prepare_config(copy.deepcopy(document))
    validate_config(prepared)
    return prepared


def kuberay_errors(document: dict) -> list[str]:
    schema = yaml.safe_load((HERE / "ray_v1.yaml").read_text())
    schema["$defs"].update(json.loads((HERE / "pod_template.json").read_text()))
    kind = document.get("kind", "")
    schema["oneOf"] = [part for part in schema["oneOf"] if part["$ref"].endswith(f"/{kind}")] or schema[
        "oneOf"
    ]
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)]


def ec2_errors(node_config: dict) -> str:
    """What the EC2 client would refuse before it sends anything."""
    shape = (
        botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    )
    request = {**node_config, "MinCount": 1, "MaxCount": 1}
    return botocore.validate.ParamValidator().validate(request, shape).generate_report()


def ray_start_options(commands: list[str]) -> dict:
    (line,) = [command for command in commands if "ray start" in command]
    return ray_start.make_context("ray start", shlex.split(line.split("ray start")[1])).params


def groups() -> dict[str, dict]:
    """Worker groups of the Kubernetes cluster by name."""
    return {
        group["groupName"]: group for group in read("kuberay/raycluster.yaml")["spec"]["workerGroupSpecs"]
    }


def containers() -> list[dict]:
    spec = read("kuberay/raycluster.yaml")["spec"]
    return [
        container
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        for container in group["template"]["spec"]["containers"]
    ]


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_launcher_accepts_the_file(name):
    assert launch(read(name))["head_node_type"] == "head"


@pytest.mark.parametrize("name", LAUNCHED)
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("max_worker",), 8),
        (("head_node_type",), "haed"),
        (("idle_timeout_minutes",), "ten"),
        (("docker", "imagee"), "x"),
        (("available_node_types", "decode", "min_worker"), 1),
        (("available_node_types", "trainer", "resources", "GPU"), "eight"),
        (("available_node_types", "trainer", "node_config"), None),
    ],
)
def test_the_launcher_refuses_a_mistake(name, place, value):
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        launch(with_mistake(read(name), place, value))


@pytest.mark.parametrize("node_type", ["head", "decode", "trainer"])
def test_ec2_accepts_the_settings_of_each_node(node_type):
    assert ec2_errors(read("aws.yaml")["available_node_types"][node_type]["node_config"]) == ""


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("InstanceTyp",), "m6i.large"),
        (("InstanceMarketOptions", "MarketTyp"), "spot"),
        (("BlockDeviceMappings", 0, "Ebs", "VolumeSize"), "200 GB"),
    ],
)
def test_a_mistake_in_the_settings_of_ec2_is_seen(place, value):
    node_config = read("aws.yaml")["available_node_types"]["trainer"]["node_config"]
    assert str(place[-1]) in ec2_errors(with_mistake(node_config, place, value))


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_launched_node_demands_the_token_and_has_it(name):
    config = read(name)
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_the_start_commands_and_hides_the_dashboard(name):
    config = read(name)
    head = ray_start_options(config["head_start_ray_commands"])
    worker = ray_start_options(config["worker_start_ray_commands"])
    assert head["dashboard_host"] == "127.0.0.1"
    assert head["autoscaling_config"] == "~/ray_bootstrap_config.yaml"
    assert worker["address"] == f"$RAY_HEAD_IP:{head['port']}"


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_head_computes_nothing_and_workers_come_only_when_asked_for(name):
    config = read(name)
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert config["idle_timeout_minutes"] > 0
    for node_type in ("decode", "trainer"):
        assert types[node_type]["min_workers"] == 0 < types[node_type]["max_workers"]
    assert sum(types[t]["max_workers"] for t in ("decode", "trainer")) <= config["max_workers"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_launched_decode_nodes_decode_and_launched_trainers_have_gpus(name):
    types = read(name)["available_node_types"]
    assert types["decode"]["resources"]["decode"] == types["decode"]["resources"]["CPU"]
    assert "GPU" not in types["decode"]["resources"]
    assert types["trainer"]["resources"]["GPU"] == 8


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_head_is_on_demand_and_the_workers_are_spot(name):
    def is_spot(node_type: str) -> bool:
        settings = read(name)["available_node_types"][node_type]["node_config"]
        market = settings.get("InstanceMarketOptions", {}).get("MarketType")
        return market == "spot" or settings.get("scheduling", {}).get("provisioningModel") == "SPOT"

    assert [is_spot(node_type) for node_type in ("head", "decode", "trainer")] == [False, True, True]


@pytest.mark.parametrize("name", KUBERNETES)
def test_a_kubernetes_file_fits_the_transcribed_schema(name):
    assert kuberay_errors(read(name)) == []


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("kuberay/raycluster.yaml", ("kind",), "RayClustre"),
        ("kuberay/raycluster.yaml", ("apiVersion",), "ray.io/v1beta1"),
        ("kuberay/raycluster.yaml", ("spec", "rayVersion"), 2.60),
        ("kuberay/raycluster.yaml", ("spec", "authOptions", "mode"), "tokn"),
        ("kuberay/raycluster.yaml", ("spec", "workerGroupSpecs", 0, "replcas"), 1),
        ("kuberay/raycluster.yaml", ("spec", "workerGroupSpecs", 1, "maxReplicas"), "8"),
        ("kuberay/raycluster.yaml", ("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (
            "kuberay/raycluster.yaml",
            ("spec", "headGroupSpec", "template", "spec", "containers", 0, "imge"),
            "x",
        ),
        (
            "kuberay/raycluster.yaml",
            (
                "spec",
                "workerGroupSpecs",
                1,
                "template",
                "spec",
                "containers",
                0,
                "resources",
                "limits",
                "cpu",
            ),
            ["88"],
        ),
        ("kuberay/raycluster.yaml", ("spec", "workerGroupSpecs", 1, "template", "spec", "toleration"), []),
        ("kuberay/rayjob.yaml", ("spec", "entrypiont"), "python x.py"),
        ("kuberay/rayjob.yaml", ("spec", "clusterSelector"), ["mae-dist"]),
        ("kuberay/rayjob.yaml", ("spec", "submissionMode"), "K8sJob"),
        ("kuberay/rayjob.yaml", ("spec", "submitterConfig", "backoffLimit"), -1),
    ],
)
def test_a_mistake_in_a_kubernetes_file_is_seen(name, place, value):
    assert kuberay_errors(with_mistake(read(name), place, value))


def test_kubernetes_runs_the_ray_that_was_tested():
    (pinned,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert read("kuberay/raycluster.yaml")["spec"]["rayVersion"] == pinned


def test_kubernetes_demands_the_token_and_scales_to_nothing():
    spec = read("kuberay/raycluster.yaml")["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in groups().values():
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]


def test_a_pod_gets_what_it_asks_for_and_nobody_runs_as_root():
    spec = read("kuberay/raycluster.yaml")["spec"]
    for container in containers():
        assert container["resources"]["requests"] == container["resources"]["limits"]
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"]


def test_decode_pods_decode_and_trainer_pods_have_gpus():
    def limits(name: str) -> dict:
        return groups()[name]["template"]["spec"]["containers"][0]["resources"]["limits"]

    # The operator passes the value on to a shell, which takes the outer quotes off.
    custom = json.loads(json.loads(groups()["decode"]["rayStartParams"]["resources"]))
    assert custom == {"decode": int(limits("decode")["cpu"])}
    assert "nvidia.com/gpu" not in limits("decode")
    assert limits("trainer")["nvidia.com/gpu"] == "8"


def test_one_image_runs_every_pod():
    assert len({container["image"] for container in containers()}) == 1


def test_the_job_goes_to_the_cluster_that_is_defined_beside_it():
    cluster = read("kuberay/raycluster.yaml")["metadata"]["name"]
    assert read("kuberay/rayjob.yaml")["spec"]["clusterSelector"] == {"ray.io/cluster": cluster}


@pytest.mark.parametrize("name", [*LAUNCHED, *KUBERNETES])
def test_no_secret_is_written_into_a_cluster_file(name):
    text = (CLUSTER / name).read_text()
    assert not re.search(r"(?i)(secret_access_key|auth_token|password)\b['\"]?\s*[:=]\s*[^\s~\"']", text)
