"""Overload: which new requests are served, refused or dropped while more arrive than can be served
(RFC 3261 §21.5.4, RFC 5390, RFC 6357).

Nothing is set: the capacity is what is left of the process's time when everything that frees state
has been done. All times are parts of T1, because after T1 a client sends its request again.

lateness.py decides when an overload begins. shedding.py refuses or drops what is not served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent

from ..message.message import Request
from ..message.peek import fastest_has_to_tag as has_to_tag
from ..message.peek import fastest_key as request_key
from ..message.peek import has_to_tag_surely, may_refresh, read_request
from ..runtime.clock import Alarm
from ..transaction.keys import server_key
from ..transaction.machines import RECV_REQUEST
from ..transport.base import Flow, Receive
from .admission import OVERLOAD
from .lateness import LOOP, Lateness
from .layer import TransactionLayer
from .queue import WAITING_BYTES, NewRequests
from .shedding import PATIENCE, SHED_SECONDS, Shedding
from .thinning import ThinningByClient
from .time_share import TimeShare
from .users import ServerRecord

NORMAL, REFUSING, SHEDDING = "normal", "refusing", "shedding"
"""The states. In Normal, messages are served in the order in which they arrive. In Refusing, the
newest request is served first, and one that has waited too long gets 503. In Shedding, there is
not even time for all refusals, and the rest is dropped."""

STATES = (NORMAL, REFUSING, SHEDDING)

REFRESHES = 0.25
"""Part of the time that REGISTERs may take without waiting because they look like refreshes of
bindings (RFC 3261 §10.2.4). Anybody can write credentials or a high CSeq, so those beyond this part
wait, as new requests do."""

STRANGERS = 0.25
"""Part of the time for requests that claim a dialog that is not known here. Anybody can write a To
tag or a BYE, and each costs a 481 (RFC 3261 §12.2.2). Those beyond this part are dropped."""

UNKNOWN_DIALOG = "unknown_dialog"
"""The name of those that are dropped, in `stats()`."""

SLICE = 0.002
"""Seconds for new requests, then the sockets are read. Where the system grants the usual 200 KB, a
socket's buffer has room for 300 datagrams: some milliseconds."""

TURN = 64
"""Most new requests that are served in a turn."""

WAITING = 20_000
"""Most new requests that wait. Beyond that the oldest ones are dropped. Each takes 1 KB."""

LOOP_SECONDS = 0.5
"""Two late timers that are further apart say nothing of the time between them."""

_FREEING = (b"ACK ", b"BYE ", b"PRACK ", b"CANCEL ")
"""Begins a request that frees something, or continues what has begun: ACK, BYE, PRACK, CANCEL."""

log = logging.getLogger("sippet_gevent.core")


class Overload:
    """Sorts messages while more new requests arrive than the process can serve.

    * Responses, requests within dialogs, ACK, BYE, CANCEL, refreshes of registrations and
      retransmissions of what is being served are passed on in the order of their arrival.
    * Refreshes, and requests of dialogs that are not known here, have a part of the time. Beyond it
      refreshes wait as new requests do, and the others are dropped.
    * Of new requests those of each source take turns, and the newest is served first: its sender
      still waits, and has not sent it again.
    * A new request that has waited for PATIENCE gets 503 with Retry-After. If refusals have used up
      their share of the time, it is dropped. Its sender repeats it after T1, and gets 503 then, or
      is served if the overload has ended.

    Args:
        layer: Has the transactions, limits, counters and clock.
        serve: `serve(data, flow)` carries a message to its transaction or core. Called in the hub.
        repeat: `repeat(transaction, RECV_REQUEST, data, flow)` takes a retransmission.
        refuse: `refuse(data, flow, key, now)` answers a request with 503, without a transaction.
        sends: `sends()` sends the answers of refuse() that wait.
        crashed: `crashed(error, data, flow)` takes an error that a message has caused in the hub.
    """

    def __init__(
        self,
        layer: TransactionLayer,
        *,
        serve: Receive,
        repeat: Callable[[ServerRecord, str, bytes, Flow], None],
        refuse: Callable[[bytes, Flow, str, float], None],
        sends: Callable[[], None],
        crashed: Callable[[BaseException, bytes, Flow], None],
    ) -> None:
        self._layer = layer
        self._serve, self._repeat, self._crashed = serve, repeat, crashed
        self._servers = layer.servers
        self._admission = layer.admission
        self._lately = layer.admission.lately
        self._counters = layer.counters
        self._now = layer.clock.now
        t1 = layer.timers.t1
        self._lateness = Lateness(t1)
        self._late, self._standing = self._lateness.late, self._lateness.standing
        self._patience = PATIENCE * t1
        self.is_active = False
        """True in any state but Normal."""
        self.changed: Callable[[], None] = lambda: None
        """Called when `is_active` has changed."""
        self.sorts = False
        """True if messages that arrive by connections must be given to set_aside()."""
        self.waiting = NewRequests(layer.sources)
        """New requests that wait."""
        self.delay = 0.0
        """Seconds that the last message measured has waited in the kernel."""
        self.periods = 0
        """Number of times that the state has left Normal."""
        self._arrival = self._began = self._pressed = self._looked = self._measured = 0.0
        self._thinning = ThinningByClient(self._standing, self._late, self._patience)
        self.shedding = Shedding(
            layer, self.waiting, self._thinning, refuse, sends, self._pass, crashed
        )
        """Refuses or drops new requests that are not served."""
        self._refreshes = TimeShare(REFRESHES, self._standing, layer.sources)
        self.strangers = TimeShare(STRANGERS, self._standing, layer.sources)
        """Requests of unknown dialogs that have passed. A core that forwards one gives it back,
        because a proxy need not know the dialogs of others."""
        self._share: TimeShare | None = None  # of the message that passes
        self.parsed: tuple[bytes, Request] | None = None
        """The last message that was parsed for sorting. If it passes, it is not parsed again."""
        layer.admission.thinning = self.thinning
        self._is_scheduled = False
        self._alarm: Alarm | None = None
        self._timer: Any = None  # of the loop; gevent has no types
        self._later = self._after_reading

    @property
    def state(self) -> str:
        """NORMAL, REFUSING or SHEDDING."""
        if not self.is_active:
            return NORMAL
        return SHEDDING if self._now() - self.shedding.shed_at < SHED_SECONDS else REFUSING

    @property
    def statistics(self) -> dict[str, int]:
        """The gauges and counters by name: `state` is 0 in Normal, 1 in Refusing, 2 in Shedding."""
        return {
            "state": STATES.index(self.state),
            "delay_ms": round(self.delay * 1000),
            "waiting": len(self.waiting),
            "periods": self.periods,
        }

    # ---- the measure

    def waited(
        self, source: object, seconds: float, *, stands: bool, dropped: bool = False
    ) -> Receive | None:
        """Take a report of the time that a message has waited, or that the loop is late.

        Args:
            source: The socket, or whatever has measured it.
            seconds: The time.
            stands: True if there was no moment without a queue since the last report of the source.
            dropped: True if the kernel has dropped messages since then.

        Returns:
            take() while the stack is overloaded, otherwise None.
        """
        now = self._now()
        self.delay, self._measured = seconds, now
        if self.is_active:
            if seconds >= self._late or dropped:
                self._pressed = now
        elif self._lateness.is_overload(source, seconds, now, stands=stands, dropped=dropped):
            self._begin(now)
        if not self.is_active:
            return None
        self._arrival = now - seconds
        return self.take

    def loop_is_late(self, seconds: float) -> None:
        """Take the lateness of a timer, which shows how long messages of connections wait."""
        before, self._looked = self._looked, self._now()
        self.waited(LOOP, seconds, stands=self._looked - before < LOOP_SECONDS)

    def thinning(self, host: str) -> float:
        """Return the part of its requests that a client should not send (RFC 7339 §5.3)."""
        thinning = self._thinning
        if not self.is_active and not thinning.asks:
            return 0.0
        now = self._now()
        waits = self.waiting.waits(host, now)
        return thinning.follow(host, now, self._delay_at(now), *waits, is_over=not self.is_active)

    def _delay_at(self, now: float) -> float:
        """Return `delay`, or 0.0 if it was measured too long ago, because timers report no end."""
        return self.delay if now - self._measured < self._standing else 0.0

    def _begin(self, now: float) -> None:
        self.is_active = self.sorts = True
        self.periods += 1
        self._began = self._pressed = now
        self._thinning.begin(now)
        self.shedding.begin(now)
        self._lateness.clear()
        self._admission.overloaded(True)
        self.changed()
        self._watch()
        text = 'overload begins: delay_ms=%d reason="new requests are refused with 503"'
        self._counters.warn(OVERLOAD, now, text, self.delay * 1000, log=log)

    def _end(self, now: float) -> None:
        self.is_active = self.sorts = False
        self.parsed = None
        self._admission.overloaded(False)
        self.changed()
        text = "overload ended: seconds=%.1f refused=%d dropped=%d"
        shed = self.shedding
        self._counters.warn(
            OVERLOAD, now, text, now - self._began, shed.refused, shed.dropped, log=log
        )

    # ---- sorting

    def take(self, data: bytes, flow: Flow, *, is_measured: bool = True) -> None:
        """Take a message that has just been read, in the hub: set it aside, or pass it on. With
        `is_measured`, waited() has told when it arrived."""
        try:
            if self.set_aside(data, flow, self._arrival if is_measured else None):
                return
        except Exception as error:  # one that reaches the loop would end the reading of the socket
            if self._counters.balance <= 0:
                self._counters.received += 1
            self._crashed(error, data, flow)
            return
        share = self._share
        began = 0.0 if share is None else self._now()
        self.sorts = False
        self._serve(data, flow)
        self.sorts = self.is_active
        if share is not None:
            share.took(self._now() - began)

    def set_aside(self, data: bytes, flow: Flow, arrival: float | None = None) -> bool:
        """Keep a new request until its turn, absorb a retransmission, or drop a request of an
        unknown dialog. False for any other message.

        Args:
            data: The message.
            flow: Its flow.
            arrival: The time of its arrival; now by default.
        """
        self._share = None
        request = None
        key = request_key(data)
        if key is None:
            # TLS, WebSocket, compact names, folded lines
            request = self._read(data)
            if request is None:
                return False
            key = request.mandatory.key or server_key(request)
        number = hash(key)
        shedding, waiting = self.shedding, self.waiting
        lately, lost = self._lately, shedding.lost
        is_refused = number in lately.keys or number in lately.before
        tx = self._servers.get(key)
        if data.startswith(_FREEING):
            if is_refused and data[:1] == b"A":
                self._counters.received += 1
                self._counters.absorbed += 1
                return True
            if data[:1] == b"C":
                had_one = waiting.keep_cancel(key, self._now(), (data, flow))
                if had_one is not None:
                    self._counters.received += had_one
                    self._counters.absorbed += had_one
                    while waiting.bytes > WAITING_BYTES:
                        shedding.drop_oldest()
                    return True
            if tx is None:
                return self._drop_stranger(key, data, flow, request)
        if tx is not None:
            if tx.reliable or request is not None or data[:1] == b"A":
                return False
            self._counters.received += 1
            self._repeat(tx, RECV_REQUEST, data, flow)
            return True
        if has_to_tag(data):
            if has_to_tag_surely(data):
                return self._drop_stranger(key, data, flow, request)
            request = request or self._read(data)
            if request is None:
                return False
            if request.mandatory.to_tag is not None:
                return self._drop_stranger(key, data, flow, request)
        if (
            data[:1] == b"R"  # most requests need no further look
            and may_refresh(data)
            and self._refreshes.may_pass(flow.remote[0], key, self._now())
        ):
            self._share = self._refreshes
            return False
        priority = self._admission.priority
        if priority.is_configured and (
            priority.is_in(data, flow.remote[0]) if request is None else priority.has(request)
        ):
            return False
        if is_refused or number in lost.keys or number in lost.before:
            # the capacity is for callers that have not waited yet
            now = self._now()
            if shedding.budget > 0:
                shedding.refuse_one(key, data, flow, now)
            else:
                shedding.drop([(key, (now, data, flow, None, ""))], now)
            return True
        cancel = None
        if key in waiting.requests:
            self._counters.received += 1
            self._counters.absorbed += 1
            before = waiting.pop(key)
            cancel = None if before is None else before[3]
        waiting.put(key, self._now() if arrival is None else arrival, data, flow, cancel)
        while len(waiting.requests) > WAITING or waiting.bytes > WAITING_BYTES:
            shedding.drop_oldest()
        if not self._is_scheduled:
            self._schedule()
        return True

    def _drop_stranger(self, key: str, data: bytes, flow: Flow, request: Request | None) -> bool:
        """Drop a request of an unknown dialog if these have had their part of the time. False if
        the request may pass.

        A request always passes if it belongs to a call, a dialog or a route of ours, or cancels a
        request that is being served. So the bound refuses nothing that frees state. Silence is
        safe: the sender of a request without an answer ends its dialog, as after a 481 (§12.2.1.2).
        """
        request = request or self._read(data)
        if (
            request is None  # its sender gets 400, at a limited rate
            or self._layer.cores.belongs(request)
            or (request.method == "CANCEL" and server_key(request, "INVITE") in self._servers)
            or self._admission.priority.has(request)
        ):
            return False
        if self.strangers.may_pass(flow.remote[0], key, self._now()):
            self._share = self.strangers
            return False
        self.shedding.count(UNKNOWN_DIALOG, [(key, (0.0, data, flow, None, ""))])
        return True

    def _read(self, data: bytes) -> Request | None:
        """Parse a request, and keep it for receive(). None if it is no request, or a broken one."""
        request = read_request(data, self._layer.limits.parser)
        if request is not None:
            self.parsed = data, request
        return request

    def _pass(self, data: bytes, flow: Flow) -> None:
        self.sorts = False
        self._serve(data, flow)
        self.sorts = self.is_active

    # ---- turns

    def _schedule(self) -> None:
        self._is_scheduled = True
        gevent.get_hub().loop.run_callback(self.turn)

    def _after_reading(self, turn: Callable[[], None]) -> None:
        """Call turn() once the sockets have been read. Callbacks would run before that, again and
        again."""
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(0)
        self._timer.start(turn)

    def turn(self) -> None:
        """Serve the newest requests for SLICE seconds. Then refuse or drop those that are too
        old."""
        self._is_scheduled = False
        now = self._now()
        earned = self.shedding.earn(now)
        until = now + SLICE
        waiting, admission = self.waiting, self._admission
        # calls in progress first: what they still need is late, so no more than one is begun
        for _ in range(TURN if self._delay_at(now) < self._late else 1):
            if not waiting.requests or now >= until:
                break
            request = waiting.take(now - self._patience)
            if request is None:
                break
            _, data, flow, cancel, _ = request[1]
            self._thinning.total.served += 1
            if self._thinning.clients:
                self._thinning.count((flow.remote[0],), served=True)
            admission.admits = True
            try:
                self._pass(data, flow)
            finally:
                admission.admits = False
            if cancel is not None:
                self._pass(*cancel)
            now = self._now()
        self.shedding.clear(now, now + max(SLICE, earned))
        if waiting.requests:
            self._pressed = now
            self._is_scheduled = True
            self._later(self.turn)

    # ---- the end

    def _watch(self) -> None:
        self._alarm = self._layer.clock.alarm(self._standing, self._look)

    def _look(self) -> None:
        """End the overload when for STANDING each turn has served all that waited."""
        self._alarm = None
        now = self._now()
        if now - self._pressed >= self._standing:
            self._end(now)
        else:
            self._watch()

    def stop(self) -> None:
        """Forget the requests that wait, and the overload: the stack may be started again."""
        self.shedding.stop(self._now())
        self._admission.overloaded(False)
        self.is_active = self.sorts = self._is_scheduled = False
        self.changed()
        self._lateness.clear()
        self._thinning.clear()
        self.parsed = None
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
