"""Process: sets up signals, logging and watchdog for `Stack.run()`.

Several stacks may run in one process, each in a greenlet of its own. They share the signals and the
watchdog.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

import gevent

from ..errors import SIPError, TransactionStateError, TransportError
from ..observe.log_values import Quoted
from .watchdog import Watchdog

log = logging.getLogger("sippet_gevent")

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

_KEPT = (signal.SIGHUP, signal.SIGUSR1)
"""Signals that are kept while a program starts. The others end it."""

_MAIN_THREAD = "run() must be called in the main thread: call serve_forever() in another one"


class Runnable(Protocol):
    """The part of a Stack that a process uses."""

    @property
    def tls(self) -> object: ...
    @property
    def addresses(self) -> list[str]: ...
    @property
    def active(self) -> int: ...
    def start(self) -> object: ...
    def serve_forever(self) -> None: ...
    def stop(self, timeout: float | None = None) -> None: ...
    def reload_tls(self) -> None: ...
    def stats(self) -> Mapping[str, object]: ...


def log_to_stderr(level: int = logging.INFO) -> None:
    """Show log lines of this level and above on stderr, unless the application has set up logging
    itself."""
    if not log.hasHandlers():
        logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)


class Process:
    """The stacks that run in this process, with the signals and the watchdog that they share.

    The first SIGTERM or SIGINT drains all stacks, and the next one stops them at once. If the loop
    is blocked at the second one, the watchdog ends the process. SIGHUP reads the certificates
    again, SIGUSR1 logs the statistics; both are kept until a stack has started. Process does not
    touch a signal that is ignored, or that the application handles itself.
    """

    def __init__(self) -> None:
        self.watchdog = Watchdog()
        self.asked = 0
        """Number of times that SIGTERM or SIGINT has asked the process to stop."""
        self._stacks: dict[Runnable, float] = {}
        self._starting = 0
        self._kept: set[int] = set()
        self._replaced: dict[int, Any] = {}
        self._handlers: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._log_stats,
        }

    def run(self, stack: Runnable, drain: float) -> None:
        """Start a stack and return when it has stopped.

        Args:
            stack: The stack.
            drain: Most seconds between a signal and the end.

        Raises:
            SystemExit: An address is taken, or cannot be opened for another reason. Its text says
                which one, and which program has it.
            TransactionStateError: This is not the main thread, or the stack runs already.
        """
        if stack in self._stacks:
            raise TransactionStateError(
                "run() was called before for this stack, and has not returned: call it once"
            )
        log_to_stderr()
        with self.starting():
            try:
                stack.start()
            except TransportError as error:
                if not gevent.get_hub().main_hub:
                    raise  # threading drops SystemExit
                # no traceback, because a user of the program can do something
                raise SystemExit(f"not started: {error}") from error
            try:
                with self._joined(stack, drain):
                    log.info(
                        'started: addresses=%s hint="SIGTERM or Ctrl-C stops"',
                        ",".join(stack.addresses) or "none",
                    )
                    stack.serve_forever()
            finally:
                stack.stop()
        log.info("stopped: %s", _line(stack.stats()))

    @contextmanager
    def starting(self) -> Iterator[set[int]]:
        """Keep SIGHUP and SIGUSR1 until a stack runs. By default they would end the program.

        A supervisor or a rotation of log files may send them to a program that has just begun.
        Yields the numbers of the signals that are kept. The caller may take some of them over.
        """
        if not gevent.get_hub().main_hub:  # Python handles signals in the main thread only
            yield set()
            return
        self._starting += 1
        self._handle(_KEPT)
        try:
            yield self._kept
        finally:
            self._starting -= 1
            self._restore()

    @contextmanager
    def _joined(self, stack: Runnable, drain: float) -> Iterator[None]:
        """Add the stack to those that signals drain and stop."""
        if not self._stacks:
            self._set_up()
        elif gevent.get_hub() is not self._hub:
            raise TransactionStateError(_MAIN_THREAD)
        self._stacks[stack] = drain
        if self.asked:  # while this stack started, or while others drain
            gevent.spawn(stack.stop, drain)
        while self._kept:
            gevent.spawn(self._handlers[self._kept.pop()])
        try:
            yield
        finally:
            del self._stacks[stack]
            self._restore()

    # ---- what the stacks share

    def _set_up(self) -> None:
        self.asked = 0
        try:
            self._handle(self._handlers)
        except ValueError as error:  # Python handles signals in the main thread only
            raise TransactionStateError(_MAIN_THREAD) from error
        self._hub = gevent.get_hub()
        self.watchdog.start(
            [number for number in self._replaced if self._handlers[number] == self._stop]
        )

    def _handle(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._replaced[number] = signal.signal(number, self._received)

    def _restore(self) -> None:
        """Give the signals back that nothing needs any more."""
        if self._stacks:
            return
        self.watchdog.stop()
        for number in [*self._replaced]:
            if not (self._starting and number in _KEPT):
                before = self._replaced.pop(number)
                if signal.getsignal(number) == self._received:
                    signal.signal(number, before)
        if not self._starting:
            self._kept.clear()

    # ---- signals

    def _received(self, number: int, frame: FrameType | None) -> None:
        """Take a signal, which may arrive between any two instructions. The loop does the rest.

        The loop runs the callback at once, or at the next tick of the watchdog if the signal has
        arrived in the moment between Python's last look at signals and the wait for events.
        """
        if self._handlers[number] == self._stop:
            self.asked += 1
        elif not self._stacks:
            self._kept.add(number)
            return
        gevent.get_hub().loop.run_callback(gevent.spawn, self._handlers[number])

    def _stop(self) -> None:
        at_once = self.asked > 1
        for stack, drain in list(self._stacks.items()):
            if at_once:
                log.info("stopping at once: active=%d", stack.active)
                # a stack that fails, or takes long to send BYE, must not delay the others
                gevent.spawn(stack.stop)
            else:
                log.info(
                    'stopping: active=%d reason="new requests get 503, active ones are finished"',
                    stack.active,
                )
                gevent.spawn(stack.stop, drain)

    def _reload(self) -> None:
        """Read the certificates again. If they cannot be read, nothing changes."""
        for stack in list(self._stacks):
            try:
                stack.reload_tls()
                log.info(
                    "certificates reloaded: addresses=%s"
                    if stack.tls
                    else 'certificates not reloaded: addresses=%s reason="no TLS"',
                    ",".join(stack.addresses) or "none",
                )
            except SIPError as error:
                log.error(
                    'certificates not reloaded: reason="%s" hint="the old ones stay"', Quoted(error)
                )

    def _log_stats(self) -> None:
        for stack in list(self._stacks):
            log.info("stats: %s", _line(stack.stats()))


def _line(stats: Mapping[str, object]) -> str:
    """Return the counters and gauges that are not 0 as one line."""
    found = []
    for name, value in stats.items():
        if isinstance(value, Mapping):
            value = {key: number for key, number in value.items() if number}
        if value:
            found.append(f"{name}={str(value).replace(' ', '')}")
    return " ".join(found) or "received=0"


PROCESS = Process()
"""This process."""
