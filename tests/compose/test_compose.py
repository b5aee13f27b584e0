"""The composition of three regions, and the scripts around it.

Without a Docker engine: what docker-compose.yml and the Dockerfile say is what the server reads,
and the scripts work against a `docker` that only keeps notes. With one, the composition is built
and run, on free ports and under a name of its own (the image `crdtdb` stays):

    CRDTDB_TEST_COMPOSE=1 CRDTDB_BASE_IMAGE=crdtdb-base:trixie python -m pytest tests/compose
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.request import Request, urlopen

import pytest
from cyclopts import App, Parameter

from crdtdb_server.config import SOURCES, Settings
from crdtdb_server.ports import free_ports
from livecluster import live_cluster
from processes import DEADLINE_S

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "docker-compose.yml"
REGIONS: Final = ("eu", "us", "ap")
PORT: Final = 7460


# -- what the files say ---------------------------------------------------------------------------


def sections(text: str, indent: int) -> dict[str, str]:
    """The keys of a YAML mapping that is written as blocks, with the text below each."""
    found: dict[str, str] = {}
    for part in re.split(rf"^ {{{indent}}}(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        key, _, rest = part.partition(":")
        found[key] = rest
    return found


def composition() -> dict[str, str]:
    return sections(re.sub(r"^ *#.*\n", "", COMPOSE.read_text(), flags=re.MULTILINE), 0)


def service(region: str) -> dict[str, str]:
    return sections(sections(composition()["services"], 2)[region], 4)


def environment(region: str) -> dict[str, str]:
    """The variables that a container has: the image's and its own."""
    image = dict(re.findall(r"\b(CRDTDB_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    own = dict(re.findall(r"^ +(CRDTDB_\w+): (.+)$", service(region)["environment"], re.MULTILINE))
    return image | own


def settings(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What `crdtdb serve --insecure` makes of the variables."""
    for name in [name for name in os.environ if name.startswith("CRDTDB_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = App(config=SOURCES, result_action="return_value")
    read: list[Settings] = []

    @app.default
    def take(*, given: Annotated[Settings, Parameter(name="*")]) -> None:
        read.append(given)

    app(["--insecure"], exit_on_error=False)
    return read[0]


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_set_up_as_the_server_reads_it(
    region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(environment(region), monkeypatch)
    given.check()
    assert given.region == region
    assert given.replica == f"{region}-1"
    assert given.data_dir == Path("/data")
    assert given.listen == f"0.0.0.0:{PORT}"
    assert given.advertise == f"http://{region}.wan:{PORT}"
    assert set(given.peers) == {
        f"http://{other}.wan:{PORT}" for other in REGIONS if other != region
    }
    assert given.allow_hosts == (region,)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_has_its_own_network_volume_and_port(region: str) -> None:
    has = service(region)
    assert has["networks"].strip() == f"{{region-{region}: {{}}, wan: {{aliases: [{region}.wan]}}}}"
    assert has["volumes"].strip() == f'["{region}-data:/data"]'
    default = PORT + 1 + REGIONS.index(region)
    port = f"${{{region.upper()}_PORT:-{default}}}"
    assert has["ports"].strip() == f'["127.0.0.1:{port}:{PORT}"]', "published on loopback only"


def test_networks_and_volumes_are_declared() -> None:
    declared = composition()
    assert set(sections(declared["services"], 2)) == {*REGIONS, "story"}
    assert set(sections(declared["networks"], 2)) == {*(f"region-{r}" for r in REGIONS), "wan"}
    assert set(sections(declared["volumes"], 2)) == {f"{region}-data" for region in REGIONS}


def test_containers_can_do_little() -> None:
    everyone = sections(composition()["x-container"], 2)
    for container in (composition()["x-replica"], sections(composition()["services"], 2)["story"]):
        assert "<<: *container" in container
    assert everyone["read_only"].strip() == "true"
    assert everyone["cap_drop"].strip() == "[ALL]"
    assert "no-new-privileges:true" in everyone["security_opt"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", dockerfile, re.MULTILINE), "not root"
    assert "/readyz" in dockerfile[dockerfile.index("HEALTHCHECK") :]


def test_the_story_is_told_to_each_region_by_a_name_that_it_answers_to() -> None:
    told = sections(sections(composition()["services"], 2)["story"], 4)
    assert re.findall(r"http://(\w+):(\d+)", told["command"]) == [
        (region, str(PORT)) for region in REGIONS
    ]
    assert told["networks"].strip() == f"[{', '.join(f'region-{region}' for region in REGIONS)}]"
    assert re.findall(r"(\w+): {condition: service_healthy}", told["depends_on"]) == [*REGIONS]
    assert told["restart"].strip() == '"no"'
    assert "--allow-fault-injection" in composition()["x-replica"], "it cuts and heals"


def compose_command() -> list[str] | None:
    """How Compose is called here, if it is."""
    if shutil.which("docker"):
        newer = ["docker", "compose"]
        if subprocess.run([*newer, "version"], capture_output=True).returncode == 0:
            return newer
    older = shutil.which("docker-compose")
    return [older] if older else None


def test_compose_accepts_the_file() -> None:
    compose = compose_command()
    if compose is None:
        pytest.skip("Docker Compose is not installed")
    subprocess.run([*compose, "-f", str(COMPOSE), "config", "-q"], check=True, timeout=60)


# -- the scripts, with a docker that only keeps notes ---------------------------------------------

#: Networks and containers are files: `wan` holds the containers that are on it, one a line.
_DOCKER: Final = r"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$1 $2 $*" in
    version*) cat engine ;;
    "image inspect "*) grep -qx "$3" images ;;
    "network ls "*project=*) case $* in *"project=$(cat projects)"*) echo wan-id ;; esac ;;
    "network ls "*) cat projects ;;
    "network disconnect "*) echo "$*" >>log; grep -vx "$4" wan >left; mv left wan ;;
    "network connect "*) echo "$*" >>log; for last; do :; done; echo "$last" >>wan ;;
    ps*service=*) for last in eu us ap; do
            case $* in *"service=$last "*) echo "$last-id" ;; esac
        done ;;
    ps*) printf 'us\nap\neu\n' ;;
    port*) cat "$2.port" ;;
    inspect*) for last; do :; done; echo "own-id"; if grep -qx "$last" wan; then echo wan-id; fi ;;
    *) echo "what is $*?" >&2; exit 99 ;;
esac
"""


class Scripts:
    """Runs the scripts where `docker` is the one above."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "docker").write_text(_DOCKER)
        (place / "docker").chmod(0o755)
        for name, text in {
            "engine": "28.0\n",
            "images": "base:here\n",
            "projects": "shop\n",
            "wan": "eu-id\nus-id\nap-id\n",
            "log": "",
        }.items():
            (place / name).write_text(text)

    def __call__(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        script, *arguments = command
        return subprocess.run(
            [ROOT / "scripts" / script, *arguments],
            env={"PATH": f"{self.place}:{os.environ['PATH']}", **variables},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    def said(self, *command: str, **variables: str) -> str:
        done = self(*command, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *command: str, code: int = 1, **variables: str) -> str:
        done = self(*command, **variables)
        assert (done.returncode, done.stdout) == (code, "")
        return done.stderr

    @property
    def log(self) -> list[str]:
        return (self.place / "log").read_text().splitlines()


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def test_region_cuts_and_mends(scripts: Scripts) -> None:
    assert scripts.said("region", "cut", "eu") == "eu: cut off the WAN\n"
    assert scripts.said("region", "cut", "eu") == "eu: is cut off already\n"
    assert scripts.said("region", "status", "eu") == "eu: cut off\n"
    everyone = "ap: on the WAN\neu: cut off\nus: on the WAN\n"
    assert scripts.said("region", "status") == everyone
    assert scripts.said("region", "mend", "eu") == "eu: back on the WAN\n"
    assert scripts.said("region", "mend", "eu") == "eu: is on the WAN already\n"
    assert scripts.log == [
        "network disconnect wan-id eu-id",
        "network connect --alias eu --alias eu.wan wan-id eu-id",
    ]


def test_region_finds_its_composition(scripts: Scripts) -> None:
    assert scripts.said("region", "status", "us", COMPOSE_PROJECT_NAME="shop")
    assert "does not run" in scripts.refused("region", "status", COMPOSE_PROJECT_NAME="other")
    (scripts.place / "projects").write_text("shop\nother\n")
    assert "shop\nother" in scripts.refused("region", "cut", "eu")
    (scripts.place / "projects").write_text("")
    assert "docker compose up" in scripts.refused("region", "cut", "eu")
    assert scripts.log == []


@pytest.mark.parametrize(
    "arguments", [["cut"], ["cut", "eu", "us"], ["split", "eu"], ["status", "--all"]]
)
def test_region_wants_a_command_and_a_region(scripts: Scripts, arguments: list[str]) -> None:
    assert "--help" in scripts.refused("region", *arguments, code=2)


def test_region_alone_explains_itself(scripts: Scripts) -> None:
    assert "Usage: scripts/region " in scripts.refused("region", code=2)


def test_region_knows_the_regions(scripts: Scripts) -> None:
    assert "ap\neu\nus" in scripts.refused("region", "cut", "mars")


def test_region_says_where_it_answers(scripts: Scripts) -> None:
    (scripts.place / "eu-id.port").write_text("127.0.0.1:7461\n[::1]:7461\n")
    assert scripts.said("region", "url", "eu") == "http://127.0.0.1:7461\n"


async def test_partition_cuts_and_mends_while_clients_write(scripts: Scripts) -> None:
    async with live_cluster("eu-1", "us-1", "ap-1") as replicas:
        for replica, region in zip(replicas, REGIONS, strict=True):
            (scripts.place / f"{region}-id.port").write_text(f"127.0.0.1:{replica.port}\n")
        told = await asyncio.to_thread(scripts.said, "partition", "us", "0")
    assert scripts.log == [
        "network disconnect wan-id us-id",
        "network connect --alias us --alias us.wan wan-id us-id",
    ]
    assert re.search(r"all digests are equal, and the counter shows all [1-9]\d* ack", told)


async def test_partition_fails_when_a_write_is_refused(scripts: Scripts) -> None:
    (nobody,) = free_ports(1)
    async with live_cluster("eu-1", "us-1") as replicas:
        ports = [*(replica.port for replica in replicas), nobody]
        for port, region in zip(ports, REGIONS, strict=True):
            (scripts.place / f"{region}-id.port").write_text(f"127.0.0.1:{port}\n")
        done = await asyncio.to_thread(scripts, "partition", "eu", "0")
    assert done.returncode == 1
    assert re.search(r"[1-9]\d* writes were refused", done.stderr)
    assert "network connect --alias eu --alias eu.wan wan-id eu-id" in scripts.log


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["ap", "soon"], 2, "SECONDS"), (["mars"], 1, "ap\neu\nus"), (["--all"], 2, "--help")],
)
def test_partition_wants_a_region_and_seconds(
    scripts: Scripts, arguments: list[str], code: int, said: str
) -> None:
    assert said in scripts.refused("partition", *arguments, code=code)


def test_base_image_is_made_once(scripts: Scripts) -> None:
    line = "CRDTDB_BASE_IMAGE=base:here docker compose up --build\n"
    assert scripts.said("base-image", "base:here") == line


@pytest.mark.parametrize(
    "arguments", [["--suite"], ["--mirror", ""], ["--fast"], ["one:tag", "another:tag"]]
)
def test_base_image_refuses_what_it_does_not_know(scripts: Scripts, arguments: list[str]) -> None:
    assert "--help" in scripts.refused("base-image", *arguments, code=2)


def test_base_image_trusts_certificates(scripts: Scripts) -> None:
    for file in ("/no/such.pem", str(COMPOSE)):
        assert "no certificate" in scripts.refused("base-image", "--trust", file, "base:here")


@pytest.mark.parametrize("script", ["region", "base-image", "partition"])
def test_scripts_explain_themselves(scripts: Scripts, script: str) -> None:
    assert f"Usage: scripts/{script} " in scripts.said(script, "--help")


@pytest.mark.parametrize("command", [["region", "status"], ["base-image"]])
def test_scripts_say_that_no_engine_answers(scripts: Scripts, command: list[str]) -> None:
    (scripts.place / "engine").unlink()
    assert "no Docker engine answers" in scripts.refused(*command)


# -- the composition itself -----------------------------------------------------------------------


class Composition:
    """Three regions in containers."""

    def __init__(self, compose: Sequence[str]) -> None:
        self._compose = compose
        self._variables = os.environ | {"COMPOSE_PROJECT_NAME": f"crdtdb-test-{os.getpid()}"}
        self.ports: dict[str, int] = {}
        with ExitStack() as all_at_once:
            for region in REGIONS:
                free = all_at_once.enter_context(socket.create_server(("127.0.0.1", 0)))
                self.ports[region] = free.getsockname()[1]
                self._variables[f"{region.upper()}_PORT"] = str(self.ports[region])

    def run(self, *command: str, timeout_s: float = 60) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}"
        return done.stdout.strip()

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        return self.run(*self._compose, *arguments, timeout_s=timeout_s)

    def inspect(self, region: str, what: str) -> str:
        container = self.compose("ps", "-q", region)
        return self.run("docker", "inspect", "--format", what, container)

    def ask(self, region: str, path: str, body: Any = None, host: str = "localhost") -> Any:
        """One request from this machine. An answer that is not 200 is an error."""
        request = Request(
            f"http://127.0.0.1:{self.ports[region]}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Host": host},
        )
        with urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def write(self, region: str, name: str, **operation: Any) -> None:
        self.ask(region, f"/v1/buckets/shop/{name}", operation)

    def value(self, region: str, name: str) -> Any:
        return self.ask(region, f"/v1/buckets/shop/{name}")["value"]

    def digests(self) -> dict[str, str]:
        return {region: self.ask(region, "/v1/digest")["digest"] for region in REGIONS}

    def meet(self, within_s: float = 30) -> None:
        """Wait until all regions show the same."""
        until = time.monotonic() + within_s
        while len(set((shown := self.digests()).values())) > 1:
            assert time.monotonic() < until, f"after {within_s} s: {shown}"
            time.sleep(0.1)

    def told(self, within_s: float = 90) -> str:
        """What the story said, when it has ended."""
        until = time.monotonic() + within_s
        story = self.compose("ps", "--all", "-q", "story")
        while (
            state := self.run("docker", "inspect", "-f", "{{.State.Status}}", story)
        ) != "exited":
            assert time.monotonic() < until, f"the story: {state}"
            time.sleep(0.5)
        said = self.run("docker", "logs", story)
        code = self.run("docker", "inspect", "-f", "{{.State.ExitCode}}", story)
        assert code == "0", said
        return said

    def ready(self, within_s: float = 60) -> None:
        """Wait until Docker calls every region healthy."""
        until = time.monotonic() + within_s
        for region in REGIONS:
            while (health := self.inspect(region, "{{.State.Health.Status}}")) != "healthy":
                assert time.monotonic() < until, f"{region}: {health}, {self.compose('logs')}"
                time.sleep(0.5)


@pytest.fixture(scope="module")
def regions() -> Iterator[Composition]:
    if os.environ.get("CRDTDB_TEST_COMPOSE") != "1":
        pytest.skip("builds and runs containers; CRDTDB_TEST_COMPOSE=1 asks for it")
    compose = compose_command()
    if compose is None:
        pytest.skip("Docker Compose is not installed")
    if subprocess.run(["docker", "version"], capture_output=True).returncode:
        pytest.skip("no Docker engine answers")
    composition = Composition(compose)
    try:
        composition.compose("up", "--detach", timeout_s=900)
        composition.ready()
        yield composition
    finally:
        composition.compose("down", "--volumes", "--timeout", "15")


def test_the_story_is_told_and_ends_well(regions: Composition) -> None:
    said = regions.told()
    assert re.search(r"✔ [1-9]\d+ writes acknowledged, 0 refused", said), said
    assert regions.ask("eu", "/v1/faults/links") == {"links": {}}, "no cut is left"


def test_clients_go_on_while_a_region_is_cut_off_and_mended(regions: Composition) -> None:
    said = regions.run("scripts/partition", "us", "3", timeout_s=120)
    assert "all digests are equal" in said
    print(said)


def test_a_region_cut_off_goes_on_and_meets_the_others_again(regions: Composition) -> None:
    for region, by in zip(REGIONS, (5, 7, 11), strict=True):
        regions.write(region, "counter/views", op="increment", by=by)
        regions.write(region, "set/cart", op="add", values=["apple", region])
    regions.meet()

    assert regions.run("scripts/region", "cut", "eu") == "eu: cut off the WAN"
    assert regions.run("scripts/region", "status", "eu") == "eu: cut off"
    began = time.monotonic()
    for region in REGIONS:
        regions.write(region, "counter/views", op="increment", by=100)
        regions.write(region, "flag/open", op="enable")
        regions.write(region, "set/cart", op="add", values=[f"{region}-alone"])
    regions.write("us", "set/cart", op="remove", values=["apple"])
    assert time.monotonic() - began < 5, "no write waits for another region"
    time.sleep(1)
    assert regions.value("eu", "counter/views") == 123
    assert regions.value("us", "counter/views") == 223
    assert "apple" in regions.value("eu", "set/cart")
    assert len(set(regions.digests().values())) > 1

    assert regions.run("scripts/region", "mend", "eu") == "eu: back on the WAN"
    regions.meet()
    cart = sorted([*REGIONS, *(f"{region}-alone" for region in REGIONS)])
    for region in REGIONS:
        assert regions.value(region, "counter/views") == 323
        assert regions.value(region, "flag/open") is True
        assert sorted(regions.value(region, "set/cart")) == cart


def test_a_region_starts_again_while_it_is_cut_off(regions: Composition) -> None:
    regions.write("ap", "counter/kept", op="increment", by=3)
    regions.meet()
    regions.run("scripts/region", "cut", "ap")
    regions.compose("restart", "ap")
    regions.ready()
    assert regions.run("scripts/region", "status", "ap") == "ap: cut off"
    assert regions.value("ap", "counter/kept") == 3
    regions.write("ap", "counter/kept", op="increment", by=4)
    regions.run("scripts/region", "mend", "ap")
    regions.meet()
    assert regions.value("eu", "counter/kept") == 7


def test_data_outlives_the_containers(regions: Composition) -> None:
    regions.write("us", "counter/outlives", op="increment", by=9)
    regions.meet()
    before = regions.digests()
    regions.compose("down", "--timeout", "15")
    with pytest.raises((OSError, HTTPException)):
        regions.ask("us", "/healthz")
    regions.compose("up", "--detach", *REGIONS)
    regions.ready()
    assert regions.digests() == before


def test_a_container_owns_nothing_but_its_data(regions: Composition) -> None:
    inside = (
        "id -u; stat -c '%u %a' /data; "
        "touch /here 2>/dev/null || echo sealed; touch /data/.here && rm /data/.here && echo open; "
        "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/1/status | cut -f 2"
    )
    shown = regions.compose("exec", "-T", "eu", "sh", "-c", inside).split("\n")
    assert shown == ["10001", "10001 700", "sealed", "open", "0" * 16, "0" * 16, "1"]


def test_a_region_is_known_by_the_names_it_is_called_by(regions: Composition) -> None:
    for host in ("localhost:1", "127.0.0.1", "eu", "eu.wan:7460"):
        assert regions.ask("eu", "/healthz", host=host) == {"status": "ok"}
    with pytest.raises(OSError, match="403"):
        regions.ask("eu", "/v1", host="elsewhere.example")
