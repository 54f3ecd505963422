from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import LOWEST, Ports, free_port, is_free, kernels_range, outside

ROOT = Path(__file__).parent.parent

TAKES = """
import sys
from pathlib import Path
from tests.ports import Ports

first, end, count = map(int, sys.argv[2:])
ports = Ports(range(first, end), Path(sys.argv[1]))
print(*(ports.take() for _ in range(count)), flush=True)
sys.stdin.read()
"""


def taking(locks: Path, among: range, count: int) -> subprocess.Popen[str]:
    """Start a process that takes so many ports, and keeps them until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", TAKES, str(locks), str(among.start), str(among.stop), str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ports_of(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return list(map(int, process.stdout.readline().split()))


def free_range(size: int) -> range:
    """Return neighbouring ports that nothing uses, below those that other tests are given."""
    candidates = (range(first, first + size) for first in range(2000, LOWEST - size, 10))
    return next(among for among in candidates if all(map(is_free, among)))


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """A file of locks that no other test uses."""
    return tmp_path / "ports"


def test_processes_that_run_at_the_same_time_never_get_the_same_port(locks: Path) -> None:
    among = free_range(200)
    processes = [taking(locks, among, 40) for _ in range(4)]
    taken = [port for process in processes for port in ports_of(process)]
    for process in processes:
        process.communicate(timeout=20)

    assert len(set(taken)) == len(taken) == 160
    assert set(taken) <= set(among)


def test_a_port_is_free_again_when_the_process_that_had_it_is_dead(locks: Path) -> None:
    among = free_range(20)
    holder = taking(locks, among, 15)
    assert len(ports_of(holder)) == 15
    few = Ports(among, locks)
    taken = [few.take() for _ in range(5)]
    with pytest.raises(AssertionError, match="no port is left"):
        few.take()
    holder.kill()
    holder.communicate(timeout=20)

    again = Ports(among, locks)
    assert {again.take() for _ in among} == set(among) > set(taken)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_on_which_something_listens_is_passed_over(address: str, locks: Path) -> None:
    among = free_range(3)
    with socket.create_server((address, among[1])):
        ports = Ports(among, locks)
        assert {ports.take(), ports.take()} == {among[0], among[2]}
        with pytest.raises(AssertionError, match="no port is left"):
            ports.take()


def test_no_connection_that_goes_out_can_be_given_a_port_of_a_test() -> None:
    first, last = kernels_range()
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50
    assert not [port for port in ports if first <= port <= last]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        given = []
        for _ in range(50):
            with socket.create_connection(listener.getsockname()) as connection:
                given.append(connection.getsockname()[1])
    assert not [port for port in given if not first <= port <= last]


@pytest.mark.parametrize(
    ("first", "last", "ports"),
    [
        (32768, 60999, range(LOWEST, 32768)),
        (49152, 65535, range(LOWEST, 49152)),
        (1024, 60999, range(61000, 65536)),
        (1024, 65535, range(LOWEST, 32768)),  # no port is outside of it
        (10_500, 65_000, range(LOWEST, 32768)),
    ],
)
def test_the_ports_are_those_that_the_kernel_leaves(first: int, last: int, ports: range) -> None:
    assert outside(first, last) == ports
