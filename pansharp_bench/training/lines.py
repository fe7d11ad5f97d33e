"""A line from every process of a team to the first: who is gone, what one failed of, that one was asked to stop.

What carries a training waits half an hour for a process that is silent, since one may be slow; it cannot tell
that from a machine that is off or a network that is cut. A line is idle for most of the time, and the system at its
ends makes sure that the other is there (TCP's keepalive), also while Python or a GPU is busy.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from pansharp_bench.training.loop import ONE_WISH, stop_asked

_SILENT = 60  # seconds without a sign of life after which a machine is gone
_KEEPALIVE = {
    "KEEPIDLE": 20,
    "KEEPINTVL": 10,
    "KEEPCNT": 4,
    "USER_TIMEOUT": 1000 * _SILENT,
}  # as far as known here


class Lines:
    """The first process's ends, at ``port`` of all its addresses."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.failed: dict[int, str] = {}
        """What those that failed said, by rank."""
        self.lost: dict[int, str] = {}
        """Why those are thought gone whose lines are."""
        self._listening = socket.create_server(("", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                end, _ = self._listening.accept()
                threading.Thread(target=self._listen, args=(_kept_alive(end),), daemon=True).start()

    def _listen(self, end: socket.socket) -> None:
        rank, who, why = 0, "", "it was ended"
        try:
            for line in end.makefile(encoding="utf-8"):
                told = json.loads(line)
                if "rank" in told:
                    rank, host = int(told["rank"]), told["host"]
                    where = "" if host == socket.gethostname() else f" on {host}"
                    who = f"process {rank} of {self.size}{where}"
                elif "failed" in told:
                    self.failed[rank] = f"{who} failed: {told['failed']}"
                elif "stop" in told:
                    stop_asked.set()
        except OSError as error:
            why = f"its machine or the network is down ({error.strerror or error})"
        except (ValueError, TypeError, KeyError):  # no process of this training
            end.shutdown(socket.SHUT_RDWR)
            return
        if rank:
            self.lost[rank] = f"{who} is gone: {why}"

    def cause(self) -> str:
        """What it was that one failed of; empty where none said so."""
        return next(iter(self.failed.values()), "")

    def close(self) -> None:
        """Take no more lines; those that are there end with this process."""
        self._listening.close()


class Line:
    """Another process's end. Where the first is gone, this process ends, by itself or at last by force."""

    def __init__(self, host: str, port: int, rank: int, patience: float, code: int) -> None:
        self._end = _kept_alive(socket.create_connection((host, port), timeout=_SILENT))
        self._end.settimeout(None)
        self.first, self._patience, self._code = host, patience, code
        self._tell(rank=rank, host=socket.gethostname())
        threading.Thread(target=self._listen, daemon=True).start()

    def _tell(self, **what: Any) -> None:
        with contextlib.suppress(OSError):  # who does not hear is gone, which is noticed by listening
            self._end.sendall(f"{json.dumps(what)}\n".encode())

    def _listen(self) -> None:
        why = "it has ended"
        try:
            self._end.recv(1)  # it never says a word
        except OSError as error:
            why = f"its machine or the network is down ({error.strerror or error})"
        if threading.Event().wait(self._patience):  # in which this process ends, if it is not stuck
            return
        sys.stderr.write(f"Error: the first process of this training, on {self.first}, is gone: {why}\n")
        sys.stderr.flush()
        os._exit(self._code)

    def failed(self, error: BaseException) -> None:
        """Say what this process fails of."""
        self._tell(failed=str(error) or type(error).__name__)

    def pass_signals_on(self) -> None:
        """From now on Ctrl-C and SIGTERM ask the first process to stop, which saves the state; once more, they end
        this process. They are heard also where it waits for something else than Python."""
        heard, told = socket.socketpair()
        told.setblocking(False)
        signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

        def pass_on() -> None:
            with told:
                heard.recv(1)
                sys.stderr.write(f"asked the first process, on {self.first}, to save the training and stop\n")
                self._tell(stop=True)
                time.sleep(ONE_WISH)
                heard.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    heard.recv(64)
                heard.setblocking(True)
                heard.recv(1)
                os._exit(self._code)

        threading.Thread(target=pass_on, daemon=True).start()


def _kept_alive(end: socket.socket) -> socket.socket:
    """A connection that breaks where the other machine says nothing for a minute."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if (option := getattr(socket, f"TCP_{name}", None)) is not None:
            end.setsockopt(socket.IPPROTO_TCP, option, value)
    return end


__all__ = ["Line", "Lines"]
