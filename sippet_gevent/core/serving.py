"""Serving: runs a core for a request and answers with what it returns or raises, RFC 3261 §8.2."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

from ..errors import Cancelled, InvalidValue, ParseError, Reject, SIPError, excerpt
from ..message.message import Message, Request, Response
from ..observe.log_values import Plain
from ..transaction.machines import TERMINATED
from .capabilities import BEFORE_END, END
from .core import CoreFunction
from .element import Element
from .forwarding import CoreResult, Forwarding
from .inbox import Inbox
from .refusal import refuse
from .server import ServerTransaction

log = logging.getLogger("sippet_gevent.core")


def serve(tx: ServerTransaction, core: CoreFunction) -> None:
    """Run the core in this greenlet and answer with what it returns or raises."""
    worker = gevent.getcurrent()
    worker.serving = tx
    try:
        request = tx.request
        result = core(request, tx)
        if tx.transaction.state is TERMINATED:
            pass  # the stack has stopped meanwhile, so the answer would go nowhere
        elif result is None:
            if not tx.answered and tx.context is None:
                _unanswered(tx)
            elif tx.holds:
                tx._returned()
        elif tx.forwarded and (isinstance(result, Forwarding) or result == tx.answered):
            pass  # its context answers, or has answered
        elif tx.answered or tx.cancelled:
            _late(tx, result)
        elif isinstance(result, int) and tx._is_plain(result):
            capabilities = tx.stack.capabilities
            if result < 300:
                method = request._method  # not by the property: this runs for each request
                end = capabilities.ends.get(method) or capabilities.success_end(method)
            else:
                end = capabilities.refusal_end
            data = request.answer(result)
            tx._finish(result, data if end is END else data[:BEFORE_END] + end)
        else:
            if isinstance(result, Response) and result.status >= 200:
                tx._check_is_ours(result)
                response = result
            elif isinstance(result, int) and result >= 200:
                response = request.response(result)
            else:
                raise TypeError(_what_to_return(result))
            tx._send(response)
    except Cancelled:
        if tx.context is None:  # otherwise it answers when the branches have ended (§16.10)
            tx._refuse(487)
    except Reject as refusal:
        tx._reject(refusal)
    except SIPError as error:
        if is_mistake(error, tx.request):
            raise
        _gave_up(tx.stack, tx.request, error)
        tx._refuse(error.status)
    except gevent.Timeout as timeout:
        tx._complain("core timed out", " seconds=%s reason=gevent.Timeout", timeout.seconds)
        tx._refuse(500)
    except gevent.GreenletExit:
        tx._complain("core killed")
        tx._refuse(500)
        raise
    worker.serving = None


def serve_ack(tx: ServerTransaction, core: CoreFunction) -> None:
    """Run the core for an ACK that belongs to no transaction. The return value is ignored."""
    worker = gevent.getcurrent()
    worker.serving = tx
    call_back(tx.stack, core, tx.request, tx)
    worker.serving = None


def serve_stateless(tx: ServerTransaction, core: CoreFunction) -> None:
    """Run the core for a request without a transaction, and answer with the status that it returns
    or raises (§8.2.7, §16.11)."""
    worker = gevent.getcurrent()
    worker.serving = tx
    request, engine = tx.request, tx.stack.engine
    try:
        result = core(request, tx)
        if isinstance(result, int) and result >= 200:
            answer = engine.ingress.stateless.response(request, result)
        elif isinstance(result, Response) and result.status >= 200:
            answer = result
        elif tx.forwarded and (result is None or isinstance(result, Forwarding)):
            worker.serving = None
            return
        elif result is None:
            raise TypeError("a stateless core must forward the request, or return a final status")
        else:
            raise TypeError(_what_to_return(result))
    except Reject as refusal:
        request.use_to_tag(engine.ingress.stateless.tag(request))
        answer = refuse(request, refusal)
    except (Exception, gevent.Timeout) as error:
        if isinstance(error, SIPError) and not is_mistake(error, request):
            _gave_up(tx.stack, request, error)
            answer = engine.ingress.stateless.response(request, error.status)
        else:
            engine.counters.core_errors += 1
            tx._complain("core raised", exc_info=error)
            answer = engine.ingress.stateless.response(request, 500)
    worker.serving = None
    if request.method != "ACK":
        engine.counters.delivered -= 1  # it counts as answered
        engine.answer(tx.reply_flow, answer)


class Copied:
    """The core for a copy of a request that arrived by another path.

    A UAS refuses the copy (§8.2.2.2), and a proxy forwards it (§16.3 has no such check). So the
    copy waits until the first request is answered or forwarded.

    Args:
        first: The ServerTransaction of the first request.
        core: The core that runs if the first request is forwarded.
    """

    __slots__ = ("core", "first")

    def __init__(self, first: ServerTransaction, core: CoreFunction) -> None:
        self.first = first
        self.core = core

    def __call__(self, request: Request, tx: ServerTransaction) -> CoreResult:
        first = self.first
        first.copies = first.copies or Inbox(tx.stack.clock)
        first.copies.wait(lambda: first.is_decided)
        if not first.forwarded:
            raise Reject(482, "Request Merged")
        return self.core(request, tx)


def call_back(element: Element, function: Callable[..., object], *arguments: object) -> None:
    """Run a callback of a core that cannot answer. An exception that it raises is counted and
    logged."""
    try:
        function(*arguments)
    except (Exception, gevent.Timeout) as error:
        what = arguments[0]
        if isinstance(error, (SIPError, gevent.Timeout)) and not is_mistake(error, what):
            _gave_up(element, what, error)
        else:
            counters = element.engine.counters
            counters.core_errors += 1
            text, call_id = 'core raised: argument="%r" call_id=%s', _call_id(what)
            now = element.clock.now()
            counters.error("core raised", now, text, what, call_id, exc_info=error, log=log)


def _gave_up(element: Element, what: object, error: BaseException) -> None:
    """Log that a core ended with an exception that is not its mistake."""
    text = 'core gave up: argument="%r" call_id=%s reason="%s"'
    now, call_id = element.clock.now(), _call_id(what)
    element.engine.counters.warn("core gave up", now, text, what, call_id, error, log=log)


def _call_id(what: object) -> Plain:
    return Plain(what.headers.get("Call-ID") if isinstance(what, Message) else "")


def is_mistake(error: BaseException, message: object) -> bool:
    """True for an error that is a mistake of the core. That is a SIPError with status 500, or a
    ParseError about text that is not part of `message`. A ParseError with status 502 is about a
    response to a request of the core, so it is a mistake of the peer; see Dialog.of_uac(). An
    argument that is no URI is an InvalidValue with the status of its ParseError.
    """
    if isinstance(error, InvalidValue) and error.status != 500:
        error = error.__cause__ or error
    if isinstance(error, ParseError):
        return error.status != 502 and not (
            isinstance(message, Message) and message.is_source_of(error)
        )
    return isinstance(error, SIPError) and error.status == 500


def _unanswered(tx: ServerTransaction) -> None:
    if tx.cancelled:
        tx._refuse(487)
        return
    hint = ' hint="return a status, or call tx.respond()"'
    tx._complain("core returned None without an answer", hint)
    tx.stack.engine.counters.core_errors += 1
    tx._refuse(500)


def _late(tx: ServerTransaction, result: object) -> None:
    if tx.cancelled and not tx.answered:
        tx._refuse(487)
        return
    counters = tx.stack.engine.counters
    counters.late_answers += 1
    counters.warn(
        "late answer",
        tx.stack.clock.now(),
        'late answer: returned="%r" answered=%d method=%s call_id=%s',
        result,
        tx.answered,
        Plain(tx.request.method),
        _call_id(tx.request),
        log=log,
    )


def _what_to_return(result: object) -> str:
    """Return the text of the error for a core that has returned something else."""
    write = "486, or request.response(486)"
    if isinstance(result, Reject):
        write = f"raise Reject({result.status})"
    elif isinstance(result, str) and result.isdecimal():
        write = f"return {result}"
    elif isinstance(result, (int, Response)) and not isinstance(result, bool):
        status = result if isinstance(result, int) else result.status
        write = f"tx.respond({status}) for a provisional response" if 100 <= status < 200 else write
    elif isinstance(result, tuple):
        write = "request.response(486, reason)"
    return (
        f"a core must return a final status, a final Response or None, got {excerpt(result)}: "
        f"write {write}"
    )
