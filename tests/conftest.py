"""How much the suites try: deterministic in CI, more on request.

--examples N      Hypothesis examples per law
--executions N    random executions against the specification, one per seed
--seed N          only the execution with that seed
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("crdtdb")
    group.addoption("--examples", type=int, default=200, help="Hypothesis examples per law")
    group.addoption("--executions", type=int, default=300, help="random executions to check")
    group.addoption("--seed", type=int, help="check only the execution with this seed")


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
