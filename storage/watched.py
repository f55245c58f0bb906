"""HTTP sessions whose connections can be cut at a deadline.

The timeouts of ``requests`` are for one read from the socket: a peer that sends a byte now and then, in the
head of its answer or in the middle of a chunk, keeps a call alive for ever. Here a thread shuts the sockets
down when the time is over, which wakes whatever waits on them. Sessions neither follow redirects nor look at
proxies in the environment: a source is asked where its operator configured it, and nowhere else.

They build on the session of ``ipfshttpclient``, so that its client and the gateways share this one road.
"""

import socket
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from ipfshttpclient import requests_wrapper

from storage.deadline import Deadline

# The pool manager of ipfshttpclient passes an option that urllib3 2 ignores, and says so at every session.
warnings.filterwarnings("ignore", message="The 'strict' parameter is no longer needed", category=FutureWarning)


class Watch:
    """The sockets of one piece of work, and what ends it: its deadline, or an answer that arrives too slowly."""

    def __init__(self) -> None:
        self.too_slow = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = False
        self._beats = 0

    def add(self, sock: socket.socket) -> None:
        """Watch one more socket; after the end it is shut down at once."""
        with self._lock:
            self._sockets.append(sock)
            over = self._over
        if over:
            self.cut()

    def cut(self) -> None:
        """Shut down every socket: reads and writes that wait on them end."""
        with self._lock:
            self._over = True
            sockets = tuple(self._sockets)
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def paced(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, each a sign that the answer moves on."""
        for chunk in chunks:
            self._beats += 1
            yield chunk

    @contextmanager
    def until(self, deadline: Deadline, *, paced: bool = False) -> Iterator[None]:
        """Cut at the deadline, unless the work in the ``with`` block ends before.

        ``paced``: also cut when the deadline's longest silence passes without a chunk, so that an answer that
        drips leaves time for the next source.
        """
        done = threading.Event()
        thread = threading.Thread(target=self._wait, args=(done, deadline, paced), name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()

    def _wait(self, done: threading.Event, deadline: Deadline, paced: bool) -> None:
        beats = self._beats
        while not done.wait(deadline.patience() if paced else deadline.remaining()):
            if paced and beats == self._beats:
                self.too_slow = True
            if self.too_slow or deadline.remaining() <= 0:
                self.cut()
                return
            beats = self._beats


def watch_session(session: requests.Session, watch: Watch) -> None:
    """Let a session of ``ipfshttpclient`` open watched connections only."""
    session.trust_env = False
    session.max_redirects = 0
    for adapter in session.adapters.values():
        # Adapters of this session have a pool class for each scheme and address family.
        manager: Any = adapter.poolmanager  # type: ignore[attr-defined]
        for scheme, pool in manager.pool_classes_by_scheme.items():
            manager.pool_classes_by_scheme[scheme] = _watched_pool(pool, watch)


def new_session(watch: Watch) -> requests.Session:
    """A fresh watched session."""
    session: requests.Session = requests_wrapper.Session()
    watch_session(session, watch)
    return session


def _watched_pool(pool: Any, watch: Watch) -> Any:
    connection: Any = pool.ConnectionCls

    class WatchedConnection(connection):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            watch.add(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": WatchedConnection})
