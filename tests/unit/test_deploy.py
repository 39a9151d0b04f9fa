"""What deploy/ has for containers, units and manifests is true of this slotwise: commands, settings, ports, versions.

Nothing here starts a container: the files are read, and what they say is held against the code.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from msgspec import Struct
from msgspec.structs import replace

from streams.access.rights import PARTS
from streams.cli import app
from streams.dispatch.fleet import fleet_of, read_file
from streams.ending import ANSWER_S_MAX, STOP_S_MAX
from streams.local.kafka import KAFKA_VERSION
from streams.settings import from_environment, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OURS = f"slotwise:{VERSION}"
DOCKERFILE = (DEPLOY / "image" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
MANIFESTS = [
    one for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
]
PAGES = [*DEPLOY.rglob("*.md"), ROOT / "docs" / "operations.md"]


class Run(Struct, frozen=True):
    """One command of a container or unit, as it is started."""

    where: str
    words: tuple[str, ...]
    env: dict[str, str]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each manifest's pod."""
    for one in MANIFESTS:
        spec = one["spec"]["jobTemplate"] if one["kind"] == "CronJob" else one
        template = spec.get("spec", {}).get("template")
        if template is not None:
            yield one["metadata"]["name"], template["spec"]


def units() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Each unit that runs a program, as its lines by name."""
    for file in sorted((DEPLOY / "systemd").glob("*.service")):
        lines: dict[str, list[str]] = {}
        for line in file.read_text().splitlines():
            if line and not line.startswith(("#", "[")):
                name, _, value = line.partition("=")
                lines.setdefault(name, []).append(value.replace("%i", "6066"))
        yield file.name, lines


def runs() -> Iterator[Run]:
    """Everything that is started."""
    for name, service in COMPOSE["services"].items():
        if service["image"] == OURS:
            yield Run(f"compose {name}", tuple(service["command"]), service.get("environment", {}))
    maps = {one["metadata"]["name"]: one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"}
    for name, pod in pods():
        (container,) = pod["containers"]
        env: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            env |= maps[source["configMapRef"]["name"]]
        env |= {one["name"]: one.get("value", "a secret") for one in container["env"]}
        yield Run(f"kubernetes {name}", tuple(container["args"]), env)
    common = assignments((DEPLOY / "systemd" / "slotwise.env").read_text())
    for name, unit in units():
        program, *words = shlex.split(unit["ExecStart"][0])
        assert program == "/opt/slotwise/bin/slotwise"
        yield Run(f"systemd {name}", tuple(words), common | assignments("\n".join(unit["Environment"])))


def assignments(text: str) -> dict[str, str]:
    """Read NAME=VALUE lines."""
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def require_command(words: list[str]) -> None:
    """Read a command line as slotwise reads it, without running it."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words, "a group of commands is no command"
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words))


RUNS = list(runs())


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.where)
def test_what_is_started_is_a_command_with_settings_that_there_are(run: Run) -> None:
    """Its options and variables are known, and their values can be used."""
    require_command(list(run.words))
    ours = {name: value for name, value in run.env.items() if name.startswith("SLOTWISE_")}
    assert from_environment(ours).keys() == {name.removeprefix("SLOTWISE_").lower() for name in ours}
    load(ours)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.where)
def test_each_logs_in_as_its_part(run: Run) -> None:
    """With a user of the table of rights, and a password file of its own."""
    user = run.env.get("SLOTWISE_KAFKA_USER")
    if user is not None:
        part = {"topics": "administrator"}.get(run.words[0], run.words[0])
        assert part in PARTS
        assert user == f"slotwise-{part}"
        assert part in Path(run.env["SLOTWISE_KAFKA_PASSWORD_FILE"]).name


def test_all_places_have_the_three_parts() -> None:
    """A worker, a sink and the HTTP API, and somewhere the daily job."""
    for place in ("compose", "kubernetes", "systemd"):
        started = {run.words[:2] for run in RUNS if run.where.startswith(place)}
        assert {("worker",), ("sink",), ("web",), ("db", "maintain")} <= started


def test_images_are_pinned() -> None:
    """Each has a version down to its last number; ours is that of this release, Kafka's that of the tests."""
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    images += [service["image"] for service in COMPOSE["services"].values()]
    images += [container["image"] for _, pod in pods() for container in pod["containers"]]
    assert [image for image in images if not re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.-]+)?$", image)] == []
    assert {image for image in images if image.startswith("slotwise:")} == {OURS}
    assert COMPOSE["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_the_profile_of_monitoring_has_the_rules_and_dashboards_that_are_shipped() -> None:
    """Every file that it mounts is there, every target is a part with that port; nothing of it is needed otherwise."""
    monitoring = {name: one for name, one in COMPOSE["services"].items() if one.get("profiles") == ["monitoring"]}
    assert set(monitoring) == {"prometheus", "grafana"}
    mounted = {}
    for service in monitoring.values():
        for volume in service["volumes"]:
            source, _, target = volume.removesuffix(":ro").partition(":")
            if source.startswith("."):
                mounted[target] = DEPLOY / "compose" / source
                assert mounted[target].exists(), source
            else:
                assert source in COMPOSE["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert mounted["/etc/prometheus/alerts.yml"].resolve() == DEPLOY / "prometheus" / "alerts.yml"
    provider = yaml.safe_load((mounted["/etc/grafana/provisioning"] / "dashboards" / "slotwise.yml").read_text())
    assert list(mounted[provider["providers"][0]["options"]["path"]].glob("*.json"))
    config = yaml.safe_load(mounted["/etc/prometheus/prometheus.yml"].read_text())
    plain = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == plain["rule_files"] == ["alerts.yml"]
    jobs = [one["job_name"] for one in plain["scrape_configs"]]
    # What `slotwise up` runs on a machine, and a shadow, which is started by hand, are not part of a compose file.
    by_hand = {"slotwise-up", "slotwise-shadow"}
    assert [one["job_name"] for one in config["scrape_configs"]] == [name for name in jobs if name not in by_hand]
    for job in config["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        (name,) = found["names"]
        assert COMPOSE["services"][name]["expose"] == [str(found["port"])]
    assert not any(set(monitoring) & set(one.get("depends_on", {})) for one in COMPOSE["services"].values())


def test_the_example_of_a_fleet_can_be_dispatched() -> None:
    """Every key is known, its models are those of the catalogue, and each slot has something to run."""
    options = read_file(DEPLOY / "dispatch" / "fleet.toml")
    programs = {one.preset for one in options.slot if one.preset is not None}
    assert programs == {"claude", "codex"}
    models = tomllib.loads((DEPLOY / "catalog.toml").read_text())["model"]
    known = {one["id"] for one in models}
    assert {one.model for one in options.slot} | set(options.models) <= known
    mine = replace(options, slot=tuple(replace(one, preset=None, arguments=(), exec="true") for one in options.slot))
    assert len(fleet_of(mine, base=DEPLOY / "dispatch", outer={}).slots) == 7


def test_nothing_of_ours_runs_as_root() -> None:
    """Another user, nothing to write but /tmp, no capabilities, no way to more rights."""
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    for service in COMPOSE["services"].values():
        if service["image"] == OURS:
            assert (service["user"], service["read_only"], service["cap_drop"]) == ("10001:10001", True, ["ALL"])
            assert service["security_opt"] == ["no-new-privileges:true"]
    assert COMPOSE["services"]["postgres"]["user"] == "postgres"
    for _, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
            assert context["capabilities"] == {"drop": ["ALL"]}
    for _, unit in units():
        assert (unit["User"], unit["NoNewPrivileges"], unit["ProtectSystem"]) == (["slotwise"], ["true"], ["strict"])


def test_ports_are_those_that_are_listened_on() -> None:
    """Of probes, published ports and services."""
    setting = {"worker": "SLOTWISE_WEB_PORT", "sink": "SLOTWISE_SINK_WEB_PORT", "web": "SLOTWISE_HTTP_PORT"}
    envs = {run.where: run.env for run in RUNS}
    for name, variable in setting.items():
        port = envs[f"compose {name}"][variable]
        service = COMPOSE["services"][name]
        assert f"127.0.0.1:{port}/health/ready" in service["healthcheck"]["test"][-1]
        listed = service.get("expose", []) + [one.split(":")[-1] for one in service.get("ports", [])]
        assert listed == [port]
        assert all(one.startswith("127.0.0.1:") for one in service.get("ports", []))
    for name, pod in pods():
        (container,) = pod["containers"]
        part = container["args"][0]
        if part not in setting:
            continue
        (port_of_pod,) = container["ports"]
        assert str(port_of_pod["containerPort"]) == envs[f"kubernetes {name}"][setting[part]]
        for probe, path in (("livenessProbe", "live"), ("readinessProbe", "ready")):
            assert container[probe]["httpGet"]["port"] == port_of_pod["name"]
            assert container[probe]["httpGet"]["path"] == f"/health/{path}"
    ports = {one["metadata"]["name"]: one["spec"]["ports"][0]["port"] for one in MANIFESTS if one["kind"] == "Service"}
    assert ports == {"slotwise-worker": 6066, "slotwise-web": 6080}


def test_each_has_time_to_stop() -> None:
    """Longer than a process takes by its own bound."""
    bound = ANSWER_S_MAX + STOP_S_MAX
    assert all(pod["terminationGracePeriodSeconds"] > bound for _, pod in pods())
    for service in COMPOSE["services"].values():
        if service["image"] == OURS:
            assert int(service["stop_grace_period"].removesuffix("s")) > bound
    assert all(int(unit["TimeoutStopSec"][0]) > bound for _, unit in units())


def test_selectors_find_their_pods() -> None:
    """Of services, budgets and controllers, each by the labels of a pod that there is."""
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in MANIFESTS if "template" in one.get("spec", {})]
    for one in MANIFESTS:
        selector = one.get("spec", {}).get("selector") or one.get("spec", {}).get("podSelector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= found.items() for found in labels), one["metadata"]["name"]
    assert {one["metadata"].get("namespace", one["metadata"]["name"]) for one in MANIFESTS} == {"slotwise"}


def test_secrets_are_referred_to_and_not_written() -> None:
    """No password stands in a file, and a pod gets no other part's."""
    assert [one["kind"] for one in MANIFESTS if one["kind"] == "Secret"] == []
    assert re.findall(r"=(.+)", (DEPLOY / "compose" / "example.env").read_text()) == []
    for run in RUNS:
        given = {name: value for name, value in run.env.items() if "PASSWORD" in name and not name.endswith("_FILE")}
        assert all(value == "a secret" or value.startswith("${") for value in given.values()), run.where
        assert "password=" not in run.env.get("SLOTWISE_DATABASE", "")
    for name, pod in pods():
        for volume in pod["volumes"]:
            if volume.get("secret", {}).get("secretName") == "slotwise-kafka":
                keys = {item["key"] for item in volume["secret"]["items"]}
                part = {"slotwise-topics": "administrator"}.get(name, name.removeprefix("slotwise-"))
                assert keys == {"ca.pem", part}


def test_the_image_is_made_of_files_that_there_are() -> None:
    """What it copies is in the repository, and let through to the build; packages are checked by their hashes."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = [word for line in lines for word in line.split()]
    assert [one for one in copied if not (ROOT / one).exists()] == []
    let_through = (DEPLOY / "image" / "Dockerfile.dockerignore").read_text()
    assert [one for one in copied if f"!{one}\n" not in let_through] == []
    assert "--require-hashes -r requirements.lock" in DOCKERFILE


def test_the_image_leaves_out_what_only_tests_and_up_need() -> None:
    """Followed from slotwise's own requirements; what a worker needs stays."""
    spec = importlib.util.spec_from_file_location("unneeded", DEPLOY / "image" / "unneeded.py")
    assert spec is not None
    assert spec.loader is not None
    unneeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unneeded)
    left_out = re.findall(r"--without (\S+)", DOCKERFILE)
    kept = unneeded.needed("slotwise", set(left_out))
    assert {"slotwise", "faust-streaming", "aiokafka", "kafka-python", "msgspec", "psycopg-binary", "uvicorn"} <= kept
    assert not kept & {"pytest", "mypy", "hypothesis", "schemathesis", "cryptography", *left_out}
    assert set(left_out) < unneeded.needed("slotwise")


def commands_of(page: Path) -> Iterator[str]:
    """The commands of slotwise in a page: in its blocks, and those of its text that are whole."""
    text = page.read_text()
    for block in re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL):
        yield from re.findall(r"(?:^|&& |bin/)slotwise ([a-z][^#|&>\n]*)", block, re.MULTILINE)
    yield from (" ".join(found.split()) for found in re.findall(r"`slotwise ([a-z][^`|]*)`", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_pages_can_be_typed(page: Path) -> None:
    """Each is a command, with options that it has."""
    for found in commands_of(page):
        words = shlex.split(found.partition(" > ")[0])
        try:
            require_command(words)
        except typer.BadParameter as error:
            # A command may be named without what it needs, for which typer has no public error, or with a word in place
            # of a number.
            if type(error).__name__ != "MissingParameter" and not any(word.isupper() for word in words):
                raise


def test_the_pages_name_metrics_that_there_are() -> None:
    """Each stands in docs/metrics.md."""
    known = (ROOT / "docs" / "metrics.md").read_text()
    for page in PAGES:
        named = set(re.findall(r"`((?:router|slotwise)_\w+)`", page.read_text())) - {"slotwise_owner"}
        assert [name for name in named if f"`{name}`" not in known] == []


def test_every_trouble_says_what_to_do() -> None:
    """What it means or what to look at, and always what to do."""
    text = (ROOT / "docs" / "operations.md").read_text().partition("## When something is wrong")[2]
    sections = text.split("\n### ")[1:]
    assert len(sections) > 10
    assert [one.splitlines()[0] for one in sections if "*Do:*" not in one] == []
    assert [one.splitlines()[0] for one in sections if "*Means:*" not in one and "*Look:*" not in one] == [
        "A password or certificate has to change"
    ]
