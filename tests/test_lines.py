"""Lines to the first process of a team: what one fails of, asks for, and that it is gone is heard at once."""

import os
import signal
import socket
import time

import pytest

from pansharp_bench.training import lines
from pansharp_bench.training.loop import stop_asked


def wait_for(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def ends():
    first = lines.Lines(2)
    other = lines.Line("127.0.0.1", first.port, 1, patience=1e6, code=75)  # else it would end the tests
    yield first, other
    first.close()
    other._end.close()


def test_what_one_fails_of_is_heard_and_that_it_is_gone(ends):
    first, other = ends
    other.failed(ValueError("no such luck"))
    wait_for(first.cause)
    assert first.cause() == "process 1 of 2 failed: no such luck" and not first.lost
    other._end.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: first.lost)
    assert first.lost == {1: "process 1 of 2 is gone: it was ended"}


def test_a_signal_to_one_asks_the_first_to_stop(ends):
    _, other = ends
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        other.pass_signals_on()
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(stop_asked.is_set)
    finally:
        stop_asked.clear()
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="not known here")
def test_a_silent_machine_is_noticed_in_a_minute(ends):
    end = ends[1]._end
    assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle, every, count = (end.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"))
                          for name in ("KEEPIDLE", "KEEPINTVL", "KEEPCNT"))  # fmt: skip
    assert idle + every * count <= 60


def test_who_is_no_process_of_the_training_is_not_listened_to(ends):
    first, _ = ends
    with socket.create_connection(("127.0.0.1", first.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n")
        assert stranger.recv(1) == b""
    assert not first.lost and not first.failed
