"""The Kubernetes example against Kubernetes' own schemas, and against itself: names, ports, volumes, commands."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_k8s
import kubernetes_validate
import pytest
import yaml
from click import Command, Context
from dagster._cli.code_server import start_command
from dagster._config import process_config, resolve_to_config_type
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._daemon.cli import run_command
from dagster_webserver.cli import dagster_webserver
from kubernetes.client import ApiClient

from piano_assets.defs.training import batch_config, sweep

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.34", "1.37")
COMMANDS: dict[tuple[str, ...], Command] = {
    ("dagster", "code-server", "start"): start_command,
    ("dagster-webserver",): dagster_webserver,
    ("dagster-daemon", "run"): run_command,
}
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = [d for f in KUSTOMIZATION["resources"] for d in yaml.safe_load_all((FOLDER / f).read_text())]
WORKLOADS = {m["metadata"]["name"]: m for m in MANIFESTS if m["kind"] in ("Deployment", "StatefulSet")}
INSTANCE = yaml.safe_load((FOLDER / "dagster.yaml").read_text())
LAUNCHER = INSTANCE["run_launcher"]["config"]


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in MANIFESTS if m["kind"] == kind}


def pod(name: str) -> dict[str, Any]:
    return WORKLOADS[name]["spec"]["template"]["spec"]


def container(name: str) -> dict[str, Any]:
    (only,) = pod(name)["containers"]
    return only


def ours() -> list[str]:
    """Workloads that run the project's image."""
    return [name for name in WORKLOADS if container(name)["image"].startswith("piano_assets:")]


def options(command: list[str]) -> dict[str, Any]:
    """What a command line sets, as the command itself reads it; unknown options are an error."""
    (words,) = (w for w in COMMANDS if tuple(command[: len(w)]) == w)
    context = Context(COMMANDS[words])
    COMMANDS[words].parse_args(context, command[len(words) :])
    return context.params


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    """The Kubernetes job of one batch, as Dagster's launcher sends it to the cluster."""
    settings = process_config(resolve_to_config_type(dagster_k8s.K8sRunLauncher.config_type()), LAUNCHER)
    assert settings.success, settings.errors
    sent = []

    class Batch:
        def create_namespaced_job(self, body: Any, namespace: str, **_: Any) -> None:
            sent.append(ApiClient().sanitize_for_serialization(body) | {"apiVersion": "batch/v1", "kind": "Job"})
            assert namespace == KUSTOMIZATION["namespace"]

    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        patch.setattr("kubernetes.config.load_incluster_config", lambda: None)
        launcher = dagster_k8s.K8sRunLauncher(**settings.value, k8s_client_batch_api=Batch())
        launcher.register_instance(instance)
        image = next(
            e["value"] for e in container("piano-code-location")["env"] if e["name"] == "DAGSTER_CURRENT_IMAGE"
        )
        pointer = ModuleCodePointer("piano_assets.definitions", "defs", "/app")
        origin = JobPythonOrigin("sweep", RepositoryPythonOrigin("python", pointer, image, ("dagster",), {}))
        run = instance.create_run_for_job(sweep, run_config=batch_config([]), job_code_origin=origin)
        launcher.launch_run(LaunchRunContext(run, workspace=None))
    (only,) = sent
    return only


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_and_the_job_of_a_batch_fit_kubernetes_schemas(version, job):
    for manifest in [*MANIFESTS, job]:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_does_not_fit():
    broken = yaml.safe_load(yaml.safe_dump(WORKLOADS["piano-daemon"]))
    broken["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


def test_every_file_is_applied():
    (files,) = KUSTOMIZATION["configMapGenerator"]
    named_files = {*KUSTOMIZATION["resources"], *files["files"], "kustomization.yaml"}
    assert named_files == {p.name for p in FOLDER.iterdir()}
    assert KUSTOMIZATION["generatorOptions"]["disableNameSuffixHash"]
    assert named("Namespace").keys() == {KUSTOMIZATION["namespace"]}


def test_kubectl_renders_it():
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    assert len(rendered) == len(MANIFESTS) + 1
    for manifest in rendered:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    (map_,) = (m for m in rendered if m["kind"] == "ConfigMap")
    assert yaml.safe_load(map_["data"]["dagster.yaml"]) == INSTANCE


def test_the_instance_fits_dagsters_schema_and_differs_from_the_projects_in_log_and_launcher_alone():
    read, _ = dagster_instance_config(str(FOLDER))
    assert read["run_launcher"]["class"] == "K8sRunLauncher"
    own = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    rest = {k: v for k, v in INSTANCE.items() if k not in ("storage", "run_launcher")}
    monitoring = dict(rest["run_monitoring"])
    assert monitoring.pop("start_timeout_seconds") >= 3600, "a pod may wait long for its GPU"
    rest["run_monitoring"] = monitoring
    assert rest == {k: v for k, v in own.items() if k != "storage"}


def test_a_batch_gets_a_gpu_the_data_and_the_database(job):
    spec = job["spec"]["template"]["spec"]
    (worker,) = spec["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["image"] == container("piano-code-location")["image"]
    assert spec["serviceAccountName"] in named("ServiceAccount")
    assert spec["securityContext"] == pod("piano-code-location")["securityContext"]
    mounts = {m["mountPath"]: m["name"] for m in worker["volumeMounts"]}
    assert {"/app/data", "/app/dagster.yaml"} <= mounts.keys()
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes[mounts["/app/data"]]["persistentVolumeClaim"]["claimName"] in named("PersistentVolumeClaim")
    assert volumes[mounts["/app/dagster.yaml"]]["configMap"]["name"] == "piano-instance"
    environment = {e["name"]: e for e in worker["env"]}
    assert environment["DAGSTER_HOME"]["value"] == "/app"
    assert environment["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"] == password("piano-postgresql")
    assert worker["args"][:3] == ["dagster", "api", "execute_run"]


def password(name: str) -> dict[str, str]:
    """The secret that the only password of a workload comes from."""
    (variable,) = (e for e in container(name)["env"] if "PASSWORD" in e["name"])
    return variable["valueFrom"]["secretKeyRef"]


def test_one_secret_holds_the_password_and_no_file_does():
    users = [*ours(), "piano-postgresql"]
    found = [password(name) for name in users]
    assert found == [{"name": LAUNCHER["postgres_password_secret"], "key": "postgresql-password"}] * len(users)
    settings = INSTANCE["storage"]["postgres"]["postgres_db"]
    assert settings["password"] == {"env": "DAGSTER_PG_PASSWORD"}
    assert not named("Secret")


def test_the_log_is_where_the_database_is():
    settings = INSTANCE["storage"]["postgres"]["postgres_db"]
    environment = {e["name"]: e.get("value") for e in container("piano-postgresql")["env"]}
    assert (settings["db_name"], settings["username"]) == (environment["POSTGRES_DB"], environment["POSTGRES_USER"])
    (port,) = named("Service")[settings["hostname"]]["spec"]["ports"]
    assert port["port"] == settings.get("port", 5432)


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_is_mounted_is_declared_and_exists(name):
    declared = {v["name"]: v for v in pod(name).get("volumes", [])}
    claims = {c["metadata"]["name"] for c in WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])}
    assert {m["name"] for m in container(name)["volumeMounts"]} == declared.keys() | claims
    for volume in declared.values():
        if "configMap" in volume:
            assert volume["configMap"]["name"] == KUSTOMIZATION["configMapGenerator"][0]["name"]
        else:
            assert volume["persistentVolumeClaim"]["claimName"] in named("PersistentVolumeClaim")
    mounted = {m["mountPath"]: m.get("subPath") for m in container(name)["volumeMounts"]}
    if name in ours():
        # The image's WORKDIR, DAGSTER_HOME and VOLUME: tests of the container.
        assert mounted == {
            "/app/data": None,
            "/app/dagster.yaml": "dagster.yaml",
            "/app/workspace.yaml": "workspace.yaml",
        }


@pytest.mark.parametrize("name", WORKLOADS)
def test_labels_resources_and_user_are_given(name):
    workload = WORKLOADS[name]
    assert workload["spec"]["template"]["metadata"]["labels"] == workload["spec"]["selector"]["matchLabels"]
    resources = container(name)["resources"]
    assert {"cpu", "memory"} <= resources["requests"].keys()
    assert "memory" in resources["limits"]
    assert "nvidia.com/gpu" not in resources["limits"], "only runs take a GPU"
    assert pod(name)["securityContext"]["runAsNonRoot"]
    account = pod(name).get("serviceAccountName")
    assert account in named("ServiceAccount") if name in ours() else account is None


@pytest.mark.parametrize("name", ours())
def test_commands_are_those_of_dagster_and_listen_where_they_are_looked_for(name):
    set_ = options(container(name)["command"])
    ports = [p["containerPort"] for p in container(name).get("ports", [])]
    assert ports == ([set_["port"]] if "port" in set_ else [])
    if "readinessProbe" in container(name):
        assert str(set_["port"]) in " ".join(container(name)["readinessProbe"]["exec"]["command"])


def test_services_lead_to_ports_of_pods():
    for name, service in named("Service").items():
        (workload,) = (
            w for w in WORKLOADS if service["spec"]["selector"] == WORKLOADS[w]["spec"]["selector"]["matchLabels"]
        )
        (port,) = service["spec"]["ports"]
        target = {p["name"]: p["containerPort"] for p in container(workload)["ports"]}[port["targetPort"]]
        assert (name, port["port"]) == (workload, target)


def test_the_workspace_leads_to_the_code_location():
    (origin,) = location_origins_from_yaml_paths([str(FOLDER / "workspace.yaml")])
    assert origin.location_name == "piano_assets"
    (port,) = named("Service")[origin.host]["spec"]["ports"]
    assert port["port"] == origin.port
    assert options(container(origin.host)["command"])["module_name"] == "piano_assets.definitions"


def test_the_ui_cannot_be_reached_past_authentication():
    assert options(container("piano-webserver")["command"])["host"] == "127.0.0.1"
    assert "piano-webserver" not in named("Service")


def test_those_who_start_runs_may():
    (rules,) = (r["rules"] for r in named("Role").values())
    allowed = {(r, v) for rule in rules for r in rule["resources"] for v in rule["verbs"]}
    assert {("jobs", "create"), ("jobs", "delete"), ("pods", "list"), ("pods/log", "get")} <= allowed
    (binding,) = named("RoleBinding").values()
    assert [s["name"] for s in binding["subjects"]] == [LAUNCHER["service_account_name"]]


def test_only_ui_and_daemon_reach_the_code_server():
    ((name, policy),) = named("NetworkPolicy").items()
    spec = policy["spec"]
    assert spec["podSelector"]["matchLabels"] == WORKLOADS["piano-code-location"]["spec"]["selector"]["matchLabels"]
    ((source,),) = (rule["from"] for rule in spec["ingress"])
    (expression,) = source["podSelector"]["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("app", "In")
    labels = {n: w["spec"]["template"]["metadata"]["labels"]["app"] for n, w in WORKLOADS.items()}
    assert set(expression["values"]) == {labels["piano-webserver"], labels["piano-daemon"]}
    assert {p["port"] for rule in spec["ingress"] for p in rule["ports"]} == {
        p["name"] for p in container(name)["ports"]
    }
