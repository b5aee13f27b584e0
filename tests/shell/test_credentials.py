"""The token and the authorities that commands ask with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from commands import Run
from crdtdb_client import Unreachable
from crdtdb_server.shell import server
from crdtdb_server.shell.failures import report


class _Asked(Exception):
    """Instead of asking: with what a client would have."""


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is asked."""

    def client(url: str, **options: Any) -> None:
        raise _Asked(options["bearer"], options["tls_ca"])

    monkeypatch.setattr(server, "Client", client)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("of-the-file\n")
    return file


def test_the_token_of_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRDTDB_TOKEN", "of-the-environment")
    with pytest.raises(_Asked, match="of-the-environment"):
        run("ls")


def test_the_file_wins(run: Run, token_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRDTDB_TOKEN", "of-the-environment")
    with pytest.raises(_Asked) as asked:
        run("status", "--bearer-file", str(token_file), "--tls-ca", "ca.pem")
    assert asked.value.args == ("of-the-file", Path("ca.pem"))


def test_without_a_token(run: Run) -> None:
    with pytest.raises(_Asked) as asked:
        run("get", "shop/counter/views")
    assert asked.value.args == (None, None)


@pytest.mark.parametrize("text", ["", "two tokens", "tökens"])
def test_a_file_of_anything_else(run: Run, token_file: Path, text: str) -> None:
    token_file.write_text(text, encoding="utf-8")
    ran = run("ls", "--bearer-file", str(token_file))
    assert (ran.code, ran.out) == (1, "")
    assert "must hold one token" in ran.err
    assert not text or text not in ran.err


def test_who_does_not_believe_a_certificate_is_not_told_to_start_a_replica(
    capsys: pytest.CaptureFixture[str],
) -> None:
    why = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"
    report(Unreachable([("https://eu.example:7460", why)]), as_json=False)
    shown = capsys.readouterr().err
    assert "--tls-ca FILE" in shown
    assert "crdtdb serve" not in shown
    report(Unreachable([("http://eu.example:7460", "Connection refused")]), as_json=False)
    assert "crdtdb serve" in capsys.readouterr().err
