"""The local stack: real Redis, chain and IPFS node on free ports, their files in one private folder.

    with LocalStack(Path("/tmp/stack")) as stack:
        worker = stack.start_process("evaluate", ["fitchain-verifier", "worker", "evaluate"])

Every process leads a session of its own and writes a log file of its own. `stop` ends what was started, the
last first. If the owner dies without it (SIGKILL, say), the watchdog does so (see `compose.watchdog`),
unless the stack is `keep`, in which case `python -m compose stop FOLDER` ends it later.

Layout of the folder (mode 0700):

    stack.json              what runs: names, URLs, sessions, logs
    logs/NAME.log           one file a process, appended to when it is started again
    broker/ cache/ chain/ ipfs/    data of the services
    blobs/ journal.sqlite   the disk store and the journal of the workers
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import redis

from compose import services
from compose.errors import FolderInUse, ServiceFailed
from compose.record import Address, StackRecord, private_folder
from compose.services import CHAIN_ID, PARTS, Mining, Service
from compose.sessions import Session, end
from compose.settings import StackSettings, inherited_environment

_POLL_SECONDS = 0.03
_PORT_ATTEMPTS = 3
_NOT_YET = (OSError, redis.RedisError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class RunningProcess:
    """A process of the stack: its name, its session, its log."""

    name: str
    argv: tuple[str, ...]
    log: Path
    session: Session
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Process identifier, which is that of its session and process group as well."""
        return self.popen.pid

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self.popen.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.popen.send_signal(number)

    def kill_session(self) -> None:
        """Kill the process and all that it started at once, as a power cut would."""
        self.session.send(signal.SIGKILL)
        self.popen.wait()

    def last_lines(self, count: int = 12) -> list[str]:
        """Return the last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if line.strip()][-count:]


class LocalStack:
    """Owner of the parts and of the processes started beside them. For use by one thread at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        parts: Iterable[str] = PARTS,
        mining: Mining | None = None,
        keep: bool = False,
        settings: StackSettings | None = None,
    ) -> None:
        """Describe a stack in `folder`; nothing is started yet.

        `parts` is a selection of `PARTS`. `mining` says how the chain makes blocks (default: one for each
        transaction). With `keep`, leaving the `with` block without an error, or the end of this process,
        leaves everything running.
        """
        self.folder = folder.expanduser().absolute()
        self._parts = tuple(parts)
        unknown = set(self._parts) - set(PARTS)
        if unknown:
            raise ValueError(f"no such parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        self._mining = mining or Mining()
        self._keep = keep
        self._settings = settings or StackSettings()
        self._services: dict[str, Service] = {}
        self._running: dict[str, RunningProcess] = {}
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._keep:
            self.release()
        else:
            self.stop()

    # --- the whole stack ------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start the parts and wait until each answers.

        Raises ProgramMissing, ServiceFailed (with the end of the log) or FolderInUse; whatever had been
        started by then is stopped.
        """
        private_folder(self.folder)
        (self.folder / "logs").mkdir(exist_ok=True)
        record = StackRecord.load(self.folder)
        if record is not None and record.living():
            names = ", ".join(entry.name for entry in record.living())
            raise FolderInUse(
                f"a stack is running in {self.folder} ({names}). "
                f"Stop it by `python -m compose stop {self.folder}`, or choose another folder."
            )
        try:
            self._start_watchdog()
            for part in self._parts:
                self._start_on_a_free_port(part)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything: first the processes started beside the parts, then the parts, the last first."""
        beside = [process for name, process in self._running.items() if name not in self._services]
        parts = [process for name, process in self._running.items() if name in self._services]
        if beside:
            self._end(list(reversed(beside)))
        for process in reversed(parts):
            self._end([process])
        self._services.clear()
        if self._watchdog is not None:
            self._close_watchdog(self._watchdog)
            self._watchdog = None
        StackRecord.remove(self.folder)

    def release(self) -> None:
        """Leave everything running; from now on `python -m compose stop FOLDER` is the way to end it."""
        if self._watchdog is not None:
            self._tell("release")
            self._close_watchdog(self._watchdog)
            self._watchdog = None
        self._running.clear()
        self._services.clear()

    def environment(self) -> dict[str, str]:
        """Return the `FITCHAIN_*` variables that tell a process where the parts are. Holds no secrets."""
        found = {
            "FITCHAIN_STORE_DIR": str(self.folder / "blobs"),
            "FITCHAIN_JOURNAL": str(self.folder / "journal.sqlite"),
        }
        names = {
            "broker": "FITCHAIN_BROKER_URL",
            "cache": "FITCHAIN_CACHE_URL",
            "chain": "FITCHAIN_RPC_URL",
            "ipfs": "FITCHAIN_IPFS_API",
        }
        for part, service in self._services.items():
            found[names[part]] = service.url
        if "chain" in self._services:
            found["FITCHAIN_CHAIN_ID"] = str(CHAIN_ID)
        return found

    def addresses(self) -> list[Address]:
        """Return what runs, in the order in which it was started, for people to read."""
        return [
            Address(
                name=name,
                title=self._services[name].title if name in self._services else name,
                url=self._services[name].url if name in self._services else "",
                pid=process.pid,
                log=str(process.log),
            )
            for name, process in self._running.items()
        ]

    # --- one part, one process ------------------------------------------------------------------------------

    def url(self, part: str) -> str:
        """Return the URL of a part, also while it is stopped by `stop_service`."""
        return self._services[part].url

    def process(self, name: str) -> RunningProcess:
        """Return a running part or process by its name. Raises KeyError if there is none."""
        return self._running[name]

    def start_process(
        self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None, *, cwd: Path | None = None
    ) -> RunningProcess:
        """Start a process beside the parts; it ends with the stack. Does not wait for it to be ready.

        Its environment is this process' own without `FITCHAIN_*`, then `environment()`, then `env`.
        Standard output and error go to `logs/NAME.log`, standard input is empty. Raises OSError if the
        program is not there.
        """
        if name in self._running and self._running[name].poll() is None:
            raise ValueError(f"a process named {name} is running already")
        return self._spawn(name, list(argv), {**self.environment(), **(env or {})}, cwd)

    def stop_process(self, name: str) -> int:
        """Stop one process or part, the polite way first; returns its exit status."""
        process = self._running[name]
        self._end([process])
        return process.popen.wait()

    def stop_service(self, part: str) -> None:
        """Stop one part but remember its port, so that `start_service` brings it back at the same address."""
        self.stop_process(part)

    def start_service(self, part: str) -> None:
        """Start a stopped part again where it was, and wait until it answers."""
        self._launch(self._services[part])

    def wait_for(self, name: str, text: str, *, seconds: float | None = None) -> None:
        """Wait until a process has logged `text`. Raises ServiceFailed if it ends or the time is over."""
        process = self._running[name]
        deadline = time.monotonic() + (seconds or self._settings.stack_start_seconds)
        while text not in process.log.read_text(errors="replace"):
            self._check_alive(process, deadline)
            time.sleep(_POLL_SECONDS)

    # --- private --------------------------------------------------------------------------------------------

    def _start_on_a_free_port(self, part: str) -> None:
        """Start a part for the first time. A port found free may be taken in between: then try others."""
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            service = self._describe(part, services.free_port())
            try:
                self._launch(service)
            except ServiceFailed as error:
                taken = "in use" in str(error).lower()
                if not taken or attempt == _PORT_ATTEMPTS:
                    raise
            else:
                self._services[part] = service
                self._save()
                return

    def _describe(self, part: str, port: int) -> Service:
        match part:
            case "broker":
                return services.broker(self.folder / "broker", port, self._settings)
            case "cache":
                return services.cache(self.folder / "cache", port, self._settings)
            case "chain":
                return services.chain(self.folder / "chain", port, self._settings, self._mining)
            case _:
                return services.ipfs(self.folder / "ipfs", port)

    def _launch(self, service: Service) -> None:
        process = self._spawn(service.name, service.argv, {}, None)
        deadline = time.monotonic() + self._settings.stack_start_seconds
        while True:
            try:
                service.probe()
            except _NOT_YET as error:
                self._check_alive(process, deadline, error)
                time.sleep(_POLL_SECONDS)
            else:
                if process.poll() is None:  # else somebody else answers on this port
                    return
                self._check_alive(process, deadline)

    def _check_alive(self, process: RunningProcess, deadline: float, error: Exception | None = None) -> None:
        status = process.poll()
        if status is None and time.monotonic() < deadline:
            return
        if status is not None:
            what = f"ended at once with status {status}"
        else:
            reason = f" (last: {error})" if error else ""
            what = f"did not answer within {self._settings.stack_start_seconds:g} s{reason}"
        lines = process.last_lines()
        self._end([process])
        raise ServiceFailed(process.name, what, process.log, lines)

    def _spawn(self, name: str, argv: list[str], env: Mapping[str, str], cwd: Path | None) -> RunningProcess:
        log = self.folder / "logs" / f"{name}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited_environment(), "PYTHONUNBUFFERED": "1", **env},
                cwd=cwd or self.folder,
                start_new_session=True,
            )
        process = RunningProcess(name, tuple(argv), log, Session.of(popen.pid), popen)
        self._tell(f"add {process.session.pid} {process.session.started_ticks}")
        self._running.pop(name, None)  # a name started again stands last in the order
        self._running[name] = process
        self._save()
        return process

    def _end(self, processes: list[RunningProcess]) -> None:
        end((process.session for process in processes), self._settings.stack_stop_seconds)
        for process in processes:
            process.popen.wait()
            self._tell(f"forget {process.pid}")
            if self._running.get(process.name) is process:
                del self._running[process.name]
        self._save()

    def _save(self) -> None:
        sessions = {name: process.session for name, process in self._running.items()}
        StackRecord.of(self.addresses(), sessions, self.environment()).save(self.folder)

    def _start_watchdog(self) -> None:
        # Its output goes to a file: nobody reads a pipe of it, and the owner's terminal may be gone.
        with (self.folder / "logs" / "watchdog.log").open("ab") as output:
            self._watchdog = subprocess.Popen(
                [sys.executable, "-m", "compose.watchdog", f"{self._settings.stack_stop_seconds:g}"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=inherited_environment(),
                cwd=self.folder,
                start_new_session=True,
            )

    def _tell(self, line: str) -> None:
        if self._watchdog is None:
            return
        pipe: IO[bytes] | None = self._watchdog.stdin
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # killed by somebody: the stack works without it
                os.write(pipe.fileno(), f"{line}\n".encode())

    @staticmethod
    def _close_watchdog(watchdog: subprocess.Popen[bytes]) -> None:
        if watchdog.stdin is not None:
            watchdog.stdin.close()
        watchdog.wait()
