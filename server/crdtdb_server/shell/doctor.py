"""`crdtdb doctor`: is what a replica stands on as it should be?"""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from cyclopts import Parameter

from crdtdb.errors import CrdtdbError, StartError
from crdtdb.limits import LIMITS
from crdtdb_server.shell.arguments import AsJson
from crdtdb_server.shell.printing import note, on_terminal, print_json, printable
from crdtdb_server.shell.server import DEFAULT_SERVER, Server

__all__ = ["doctor"]

Verdict: TypeAlias = Literal["ok", "warning", "wrong", "skipped"]

#: How often the disk is asked to keep something, and what is slow for the median of that.
_SYNCS: Final = 20
_SLOW_SYNC_MS, _HOPELESS_SYNC_MS = 20.0, 200.0
#: Free room on the disk: bytes, and the part of it.
_LEAST_FREE_BYTES: Final = 2**28
_SCARCE_FREE: Final = 0.1
#: How full the map may be.
_FULL_MAP, _FULLER_MAP = 0.75, 0.95
#: Connections and files that a process may have open.
_FEW_FILES, _TOO_FEW_FILES = 4_096, 1_024
_CLOCK_WARNING_MS: Final = LIMITS.max_drift_ms // 5
_CONNECT_S: Final = 2.0
_DAY_S: Final = 86_400


class Finding(NamedTuple):
    """What one look came to."""

    check: str
    verdict: Verdict
    detail: str


def doctor(
    *,
    data_dir: Annotated[
        Path | None,
        Parameter(env_var="CRDTDB_DATA_DIR", help="The replica's directory, if it is here."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    json: AsJson = False,
) -> int:
    """Look at what a replica stands on: disk, limits, clocks, peers, certificates.

    With --data-dir, at the machine: who may read the directory, how fast its disk keeps what is
    written, how much room is left, how many files may be open. With --url, at the cluster as that
    replica sees it: its state, the clocks, who can be reached and with which version, and when
    certificates end.

    Exit code 1: something is wrong.

    For example:

        crdtdb doctor --data-dir data
        crdtdb doctor --url https://eu.example:7460 --json
    """
    findings = []
    for finding in (*_machine(data_dir), *_cluster(server)):
        findings.append(finding)
        if not json:
            print(_line(finding))
    wrong = sum(finding.verdict == "wrong" for finding in findings)
    if json:
        print_json({"ok": not wrong, "findings": [finding._asdict() for finding in findings]})
    elif wrong:
        note(f"{wrong} of {len(findings)} are wrong")
    return 1 if wrong else 0


def _line(finding: Finding) -> str:
    colours: dict[Verdict, str] = {"ok": "32", "warning": "33", "wrong": "1;31", "skipped": "2"}
    word = f"{finding.verdict:<8}"
    if on_terminal():
        word = f"\033[{colours[finding.verdict]}m{word}\033[0m"
    return f"{word} {finding.check}: {printable(finding.detail)}"


def _graded(*, wrong: bool, warning: bool) -> Verdict:
    return "wrong" if wrong else "warning" if warning else "ok"


# -- this machine ---------------------------------------------------------------------------------


def _machine(data_dir: Path | None) -> Iterator[Finding]:
    if data_dir is None:
        yield Finding("data directory", "skipped", "give --data-dir to look at it and its disk")
        yield _open_files(None)
        return
    try:
        mode = data_dir.stat().st_mode & 0o777
        shared = bool(mode & 0o077)
        advice = f"; chmod 700 {data_dir}" if shared else ""
        verdict: Verdict = "wrong" if shared else "ok"
        yield Finding("data directory", verdict, f"{data_dir} has mode {mode:o}{advice}")
        yield _syncs(data_dir)
        yield _disk(data_dir)
        yield _map(data_dir)
    except OSError as error:
        yield Finding("data directory", "wrong", f"{data_dir}: {error.strerror}")
    yield _open_files(data_dir)


def _syncs(data_dir: Path) -> Finding:
    """How long a commit waits for the disk."""
    took_ms = []
    with tempfile.TemporaryFile(dir=data_dir) as file:
        file.write(bytes(_SYNCS * 4_096))
        file.flush()
        os.fsync(file.fileno())
        for number in range(_SYNCS):
            began = time.perf_counter()
            os.pwrite(file.fileno(), os.urandom(4_096), 4_096 * number)
            os.fdatasync(file.fileno())
            took_ms.append(1_000 * (time.perf_counter() - began))
    return _graded_syncs(took_ms)


def _graded_syncs(took_ms: list[float]) -> Finding:
    median_ms = statistics.median(took_ms)
    slow = median_ms > _SLOW_SYNC_MS
    advice = "; each commit waits so long: use a faster disk" if slow else ""
    return Finding(
        "fsync",
        _graded(wrong=median_ms > _HOPELESS_SYNC_MS, warning=slow),
        f"median {median_ms:.2f} ms, slowest {max(took_ms):.2f} ms{advice}",
    )


def _disk(data_dir: Path) -> Finding:
    usage = shutil.disk_usage(data_dir)
    scarce = usage.free < _SCARCE_FREE * usage.total
    short = usage.free < _LEAST_FREE_BYTES
    advice = "; make room: without any, writes are refused" if scarce or short else ""
    return Finding(
        "disk",
        _graded(wrong=short, warning=scarce),
        f"{_size(usage.free)} of {_size(usage.total)} are free{advice}",
    )


def _map(data_dir: Path) -> Finding:
    from crdtdb.store.lmdb.environment import DATA_FILE
    from crdtdb.store.lmdb.store import MAX_MAP_BYTES

    file = data_dir / DATA_FILE
    size_bytes = file.stat().st_size if file.exists() else 0
    part = size_bytes / MAX_MAP_BYTES
    return Finding(
        "map",
        _graded(wrong=part > _FULLER_MAP, warning=part > _FULL_MAP),
        f"the data file has {_size(size_bytes)}, and room for {_size(MAX_MAP_BYTES)}",
    )


def _open_files(data_dir: Path | None) -> Finding:
    """Of the server that has the directory open; else what this shell would give to one."""
    served = None if data_dir is None else _served_open_files(data_dir)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if served is None else served
    few = limit < _FEW_FILES
    whose = "this shell allows" if served is None else "the server may have"
    advice = f"; allow {_FEW_FILES} (ulimit -n, LimitNOFILE=)" if few else ""
    verdict = _graded(wrong=limit < _TOO_FEW_FILES, warning=few)
    return Finding("open files", verdict, f"{whose} {limit}{advice}")


def _served_open_files(data_dir: Path) -> int | None:
    """What the system lets the process have that holds the directory, if it can be seen."""
    from crdtdb.store.lmdb.directory import LOCK

    try:
        with (data_dir / LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                process = int(lock.read())
            else:
                return None  # whoever stands there has gone
        lines = Path(f"/proc/{process}/limits").read_text().splitlines()
    except (OSError, ValueError):
        return None
    for line in lines:
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdecimal() else None
    return None


def _size(size_bytes: int) -> str:
    size, unit = float(size_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1_024 or unit == "TiB":
            break
        size /= 1_024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


# -- the cluster ----------------------------------------------------------------------------------


def _cluster(server: Server) -> Iterator[Finding]:
    yield from _certificate(server.url)
    if server.tls_ca is not None:
        yield from _authorities(server.tls_ca)
    try:
        with server.client() as client:
            version = client.about()["version"]
            cluster = client.cluster()
    except CrdtdbError as error:
        yield Finding("server", "wrong", str(error))
        return
    me = cluster["self"]
    sound = me["state"] in ("serving", "catching_up")
    detail = f"{me['replica']} is {me['state']}, version {version}"
    yield Finding("server", "ok" if sound else "wrong", detail)
    if failing := me.get("failing"):
        detail = f"a bug ends {', '.join(failing)}, again and again; the server's log says why"
        yield Finding("replication", "wrong", detail)
    if damaged := cluster["integrity"]["damaged"]:
        yield Finding("damage", "wrong", f"{damaged} records wait to be mended; crdtdb status")
    members = [member for member in cluster["members"] if not member["self"]]
    for member in members:
        yield from _member(server, member, version)
    for url in cluster["stability"]["unmet_peers"]:
        why = cluster["troubles"].get(url, "no answer yet")
        yield Finding("peer", "wrong", f"{url} was never met: {why}")
    if not members and not cluster["stability"]["unmet_peers"]:
        yield Finding("peers", "ok", "it is alone, and no peers are configured")


def _member(server: Server, member: dict[str, Any], version: str) -> Iterator[Finding]:
    name, url = member["replica"], member["url"]
    if not member["reachable"]:
        why = member["trouble"] or "not tried yet"
        yield Finding("peer", "wrong", f"{name} cannot be reached from there: {why}")
    elif member["trouble"]:
        yield Finding("peer", "wrong", f"{name}: {member['trouble']}")
    else:
        yield Finding("peer", "ok", f"{name} can be reached")
    yield _clock(name, member["clock_offset_ms"])
    if url:
        yield from _certificate(url)
        yield _version(server, name, url, version)


def _clock(name: str, offset_ms: int | None) -> Finding:
    if offset_ms is None:
        return Finding("clock", "skipped", f"nothing was heard of {name}'s clock yet")
    far = abs(offset_ms) > LIMITS.max_drift_ms
    off = abs(offset_ms) > _CLOCK_WARNING_MS
    advice = "; set both by NTP" if off else ""
    return Finding(
        "clock", _graded(wrong=far, warning=off), f"{name} is {offset_ms:+} ms off{advice}"
    )


def _version(server: Server, name: str, url: str, version: str) -> Finding:
    """Asked from here, where the peer may well be out of reach: then that says nothing."""
    try:
        with replace(server, url=url).client() as client:
            theirs = client.about()["version"]
    except CrdtdbError:
        return Finding("version", "skipped", f"{name} ({url}) does not answer from here")
    same = theirs == version
    return Finding("version", "ok" if same else "warning", f"{name} has {theirs}")


def _certificate(url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme != "https":
        return
    where = (parts.hostname or "", parts.port or 443)
    try:
        pem = ssl.get_server_certificate(where, timeout=_CONNECT_S).encode()
        yield _ending(f"that of {url}", pem)
    except (OSError, StartError) as error:
        yield Finding("certificate", "wrong", f"{url} shows none: {error}")


def _authorities(file: Path) -> Iterator[Finding]:
    """Those that are believed: without them, nobody's certificate is worth anything."""
    try:
        yield _ending(f"the first of the authorities in {file}", file.read_bytes())
    except (OSError, StartError) as error:
        yield Finding("certificate", "wrong", f"{file}: {error}")


def _ending(whose: str, pem: bytes) -> Finding:
    """Raises StartError."""
    from crdtdb_server.tls import WARNING_S, expiry_s

    left_s = expiry_s(pem) - time.time()
    days = f"{abs(left_s) / _DAY_S:.0f} days"
    detail = f"{whose} ended {days} ago" if left_s < 0 else f"{whose} ends in {days}"
    return Finding("certificate", _graded(wrong=left_s < 0, warning=left_s < WARNING_S), detail)
