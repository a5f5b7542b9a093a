"""Best response: the final response that a proxy sends upstream, RFC 3261 §16.7 steps 6 and 7.
Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...message.iana import reason_phrase
from ...message.message import Request, Response
from ..client.reason import COMPLETED_ELSEWHERE

_PREFERRED = (401, 407, 415, 420, 484)
"""Statuses that help the caller to try again. They come first among 4xx (§16.7 step 6)."""


def best_response(responses: Iterable[tuple[Response, bool]]) -> Response | None:
    """Choose the final response that a proxy sends upstream (§16.7 step 6).

    A received response always outranks a 408 or 503 that we made for a silent or unreachable
    branch.

    Args:
        responses: The final responses in their order of arrival, each with True when it was
            received and False when we made it.

    Returns:
        The best response, or None when there is none.
    """

    def rank(entry: tuple[Response, bool]) -> tuple[bool, int, int]:
        response, received = entry
        group = response.status // 100
        within = 0 if response.status in _PREFERRED else 2 if response.status == 503 else 1
        return not received, 0 if group == 6 else group, within

    ranked = sorted(responses, key=rank)  # stable, so the first arrival wins among equals
    return ranked[0][0] if ranked else None


def response_upstream(
    request: Request, finals: Sequence[tuple[Response, bool]], *, is_registrar: bool
) -> Response:
    """Return the response that goes upstream: the best one, or what replaces it (§16.7 steps 6 and
    7).

    408 when there is none, 500 for a 503. A 401 or 407 gets the challenges of all branches.

    Args:
        request: The request as it was received.
        finals: The final responses, as for best_response().
        is_registrar: True when a target came from the bindings of this element.
    """
    best = best_response(finals)
    if best is None:
        return request.response(408)
    # Would say that we are overloaded, and serve no request at all (§16.7 step 6). RFC 7339 §5.10
    # has a 503 for a request that is held back, but only this next hop wants fewer.
    if best.status == 503:
        return request.response(500)
    # 430 is for the proxy that knows the bindings, not for the caller (RFC 5626 §11.5)
    if best.status == 430 and is_registrar:
        return request.response(480)
    # all challenges go upstream as they came, so that the caller can answer all (§16.7 step 7)
    if best.status in (401, 407):
        challenging = [response for response, _ in finals if response.status in (401, 407)]
        for name in ("WWW-Authenticate", "Proxy-Authenticate"):
            challenges = dict.fromkeys(
                text for response in challenging for text in response.headers.all(name)
            )
            if challenges:
                best.headers[name] = challenges
    return best


def cancel_reason(statuses: Sequence[int]) -> dict[str, str]:
    """Return the Reason of the CANCELs for other branches, as header field (RFC 3326 §2, §3.1).

    It is the 2xx or 6xx among the final statuses, which has decided the request. Empty if there is
    none.
    """
    if any(200 <= status < 300 for status in statuses):
        return {"reason_header": COMPLETED_ELSEWHERE}
    declined = next((status for status in statuses if status >= 600), None)
    if declined is None:
        return {}
    return {"reason_header": f'SIP;cause={declined};text="{reason_phrase(declined)}"'}
