"""forward(): a stateful proxy in one call, RFC 3261 §16."""

from __future__ import annotations

from typing import Any

from ...arguments import instance
from ...errors import InvalidValue, Reject
from ...message.message import Request
from ...transaction.timers import Timers
from ...transport.listener_choice import Wanted
from ..client.targets import NextHop
from ..server import ServerTransaction
from .copy import Target, check_target, prepare
from .forwarded_request import ForwardedRequest
from .loops import loop_mark
from .max_breadth import breadth_of
from .request_validation import check_request
from .stateless import stateless_branch


def forward(
    request: Request,
    tx: ServerTransaction,
    *targets: Target,
    next_hop: NextHop | None = None,
    listener: Wanted = None,
    record_route: bool = False,
    add_path: bool = False,
    timers: Timers | None = None,
    **headers: Any,
) -> ForwardedRequest:
    """Proxy a request to all targets at the same time, and answer with the best response (§16).

    A proxy for registered phones::

        @stack.on("INVITE")
        def invite(request, tx):
            targets = location.lookup(request.uri)
            if not targets:
                return 404
            return forward(request, tx, *targets, record_route=True)

    If a peer can be reached only by its flow, the request goes by that flow. This applies to
    registered peers, and to dialogs begun with `record_route=True` (RFC 5626 §5.3).

    A CANCEL cancels every branch, with its Reason (RFC 3326 §2). The Expires of an INVITE has no
    effect here, because it is for the callee (§13.3.1). A core that wants to end the INVITE calls
    cancel() of the result (§16.10). An ACK is sent on and never answered.

    No greenlet waits for the responses, so the core may end. It may return the result, or wait for
    the outcome: `status = forward(request, tx, *targets).wait()`. What must wait for a name server
    has a greenlet of its own.

    Args:
        request: The received request.
        tx: Its server transaction.
        targets: URIs or bindings. Without any, the request goes wherever its Route and Request-URI
            lead, so call `tx.take_route()` first.
        next_hop: A URI or a flow where all copies go instead.
        listener: The name of the listener by which they leave, as in Stack.send().
        record_route: True to stay on the route of the dialog that the request begins.
        add_path: True to add this stack to the Path of a REGISTER, so that requests to the phone
            come here and go by the phone's flow (RFC 3327 §5.2, RFC 5626 §5.1).
        timers: The timers of the copies, in place of those of the stack: `Timers(c=240)` for
            phones that ring long (§16.6 step 11), `Timers(b=3)` for servers that fail fast.
        headers: Header fields to set in the copies.

    Returns:
        The branches with their responses. wait() waits for the outcome.

    Raises:
        InvalidValue: The function is stateless, and there are several targets, or `record_route`.
        Reject: 483 when Max-Forwards is 0; 482 for a loop; 440 for more targets than Max-Breadth;
            420 for an unknown Proxy-Require; 416 for a Request-URI that is no sip or sips URI,
            without targets; 404 for a Request-URI of this stack without targets;
            403 for targets if the request has a Route that this stack did not make.
        TypeError: A target, or another argument, has another type.
    """
    if not isinstance(request, Request) or not isinstance(tx, ServerTransaction):
        instance("request", request, Request, "forward(request, tx, *targets)")
        instance("tx", tx, ServerTransaction, "forward(request, tx, *targets)")
    check_request(request, tx.stack.supported)
    for given in targets:
        check_target(given)
    # each target only once (§16.5)
    wanted: tuple[Target | None, ...] = tuple(dict.fromkeys(targets)) or (None,)
    if tx.is_stateless:
        if len(wanted) > 1:
            raise InvalidValue("a request is forwarded without a transaction to one target only")
        if record_route or add_path:
            raise InvalidValue("record_route and add_path need a transaction")
        copy, hop, origin, _ = prepare(tx, wanted[0], next_hop, headers)
        tx.stack.sender.send(
            copy,
            hop,
            mark=stateless_branch(request, tx),
            listener=origin if listener is None else listener,
        )
        return ForwardedRequest.of_ack(tx)
    if request._method == "ACK":
        breadth = breadth_of(request)
        if len(wanted) > breadth:
            raise Reject(440)
        mark = loop_mark(request, tx.stack.engine.secret)
        for target in wanted:
            copy, hop, origin, _ = prepare(tx, target, next_hop, headers)
            copy.headers.put("Max-Breadth", str(breadth // len(wanted)))
            tx.stack.sender.send(
                copy, next_hop=hop, mark=mark, listener=origin if listener is None else listener
            )
        return ForwardedRequest.of_ack(tx)
    context = ForwardedRequest(tx, record_route=record_route, add_path=add_path, timers=timers)
    try:
        if len(wanted) > context._breadth:
            raise Reject(440)
        for left, target in zip(range(len(wanted), 0, -1), wanted):
            context._coming = left - 1
            context.fork(target, next_hop=next_hop, listener=listener, share=left, **headers)
    except BaseException:  # the request is refused
        context._close()
        raise
    context._launched()
    return context
