"""How much the suites try: deterministic in CI, more on request.

--examples N      Hypothesis examples per law
--executions N    random executions against the specification, one per seed
--seed N          only the execution with that seed
--traces DIR      recorded typing to carry out again (or $CRDTDB_TRACES): *.json.gz
--long            faults on real processes in their long form (`make faults`)
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("crdtdb")
    group.addoption("--examples", type=int, default=200, help="Hypothesis examples per law")
    group.addoption("--executions", type=int, default=300, help="random executions to check")
    group.addoption("--seed", type=int, help="check only the execution with this seed")
    group.addoption("--long", action="store_true", help="faults on real processes, at length")
    group.addoption("--traces", default=os.environ.get("CRDTDB_TRACES"), help="recorded typing")


def pytest_configure(config: pytest.Config) -> None:
    """Every run tries the same examples; a failure prints how to repeat it."""
    settings.register_profile(
        "crdtdb",
        max_examples=config.getoption("--examples"),
        derandomize=True,
        print_blob=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("crdtdb")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what runs in its background deaf to ctrl-C, and that is inherited: the
        # programs that tests interrupt would be deaf, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        only = metafunc.config.getoption("--seed")
        seeds = range(metafunc.config.getoption("--executions")) if only is None else [only]
        metafunc.parametrize("seed", seeds)


@pytest.fixture(params=["friendsforever", "sveltecomponent"])
def trace_path(request: pytest.FixtureRequest) -> Path:
    """A file of recorded typing, where they have been downloaded."""
    folder = request.config.getoption("--traces")
    if folder is None:
        pytest.skip("no recorded typing: give --traces DIR with files of josephg/editing-traces")
    path = Path(folder, f"{request.param}.json.gz")
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path
