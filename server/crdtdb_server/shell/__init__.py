"""The shell command `crdtdb`.

For people there are tables and colours on a terminal, plain lines in a pipe; for programs `--json`.
Exit codes: 0 done, 1 failed, 2 wrong usage. What only one command needs, the server above all, is
imported when that command runs, so that `crdtdb get` does not wait for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from crdtdb import __version__
from crdtdb.errors import CrdtdbError
from crdtdb_server.config import SOURCES
from crdtdb_server.shell.backup import backup, restore
from crdtdb_server.shell.cluster import add, evict, rejoin
from crdtdb_server.shell.compact import compact
from crdtdb_server.shell.config import make_config
from crdtdb_server.shell.conflicts import conflicts
from crdtdb_server.shell.demo import demo
from crdtdb_server.shell.doctor import doctor
from crdtdb_server.shell.explain import explain
from crdtdb_server.shell.failures import report, report_usage
from crdtdb_server.shell.objects import delete, get, ls, put, update
from crdtdb_server.shell.repair import repair
from crdtdb_server.shell.serve import serve
from crdtdb_server.shell.status import status
from crdtdb_server.shell.token import create, list_, revoke
from crdtdb_server.shell.transfer import export, import_
from crdtdb_server.shell.verify import verify
from crdtdb_server.shell.watch import watch

__all__ = ["application", "main"]


def application() -> App:
    """The commands."""
    app = App(
        name="crdtdb",
        help="An always-writable multi-region database.",
        help_format="markdown",
        version=__version__,
        result_action="return_int_as_exit_code_else_zero",
    )
    app.command(demo, sort_key=1)
    app.command(serve, sort_key=2, config=SOURCES)
    app.command(get, sort_key=3)
    app.command(put, sort_key=4)
    app.command(update, sort_key=5)
    app.command(delete, sort_key=6)
    app.command(ls, sort_key=7)
    app.command(watch, sort_key=8)
    app.command(explain, sort_key=9)
    app.command(conflicts, sort_key=10)
    app.command(export, sort_key=11)
    app.command(import_, name="import", sort_key=12)
    app.command(status, sort_key=13)
    cluster = App(name="cluster", help="Say who belongs to the cluster.", sort_key=14)
    for command in (add, evict, rejoin):
        cluster.command(command)
    app.command(cluster)
    app.command(compact, sort_key=15)
    app.command(verify, sort_key=16)
    app.command(repair, sort_key=17)
    app.command(backup, sort_key=18)
    app.command(restore, sort_key=19)
    token = App(name="token", help="Say who may ask a server.", sort_key=20)
    token.command(create)
    token.command(list_, name="list")
    token.command(revoke)
    app.command(token)
    app.command(make_config(sort_key=21))
    app.command(doctor, sort_key=22)
    app.register_install_completion_command(
        add_to_startup=False, help="Set up completion for the shell you are in."
    )
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; gives the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code: int = application()(
            words,
            print_error=False,
            exit_on_error=False,
        )
        sys.stdout.flush()
    except CycloptsError as error:
        report_usage(error, as_json="--json" in words)
        return 2
    except CrdtdbError as error:
        report(error, as_json="--json" in words)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
