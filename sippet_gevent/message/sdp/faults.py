"""Fault: a rule of RFC 3264 that an answer or a modified description breaks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...errors import ParseError
from .description import SDP, check_description
from .direction import answer_direction
from .fmtp import fmtp_fault
from .media import MediaDescription
from .payload_types import DYNAMIC_PAYLOAD_TYPES


class Fault(NamedTuple):
    """A rule of RFC 3264 that a description breaks.

    `rule` is the section, such as "RFC 3264 §6.1". `problem` says what is wrong. `stream` is the
    index of the m= line, or None if the fault concerns the whole description.
    """

    rule: str
    problem: str
    stream: int | None = None

    def __str__(self) -> str:
        where = "" if self.stream is None else f"stream {self.stream}: "
        return f"{where}{self.problem} ({self.rule})"


def answer_faults(offer: SDP, answer: SDP) -> list[Fault]:
    """Return what is wrong with an answer to this offer, in the order of the m= lines.

    for fault in answer_faults(offer, answer):
        log.warning("bad answer: %s", fault)
    """
    if len(answer.media) != len(offer.media):
        return [
            Fault(
                "RFC 3264 §6",
                f"the answer has {len(answer.media)} m= lines, the offer {len(offer.media)}",
            )
        ]
    faults = (
        [Fault("RFC 3264 §6", "t= differs from the offer")] if answer.times != offer.times else []
    )
    for index, (offered, answered) in enumerate(zip(offer.media, answer.media)):
        faults += [
            Fault(rule, problem, index) for rule, problem in _stream_faults(offered, answered)
        ]
    return faults


def _stream_faults(
    offered: MediaDescription, answered: MediaDescription
) -> Iterable[tuple[str, str]]:
    if answered.media.lower() != offered.media.lower():
        yield "RFC 3264 §6.1", f"{answered.media} answers {offered.media}"
    if answered.is_disabled:
        return
    if offered.is_disabled:
        yield "RFC 3264 §8.2", "port 0 must be answered by port 0"
        return
    if answered.proto.upper() != offered.proto.upper():
        yield "RFC 3264 §6", f"{answered.proto} answers {offered.proto}"
    theirs, ours = answered.connection, offered.connection
    if theirs is None:
        yield "RFC 8866 §5.7", "no c= line"
    elif not theirs.is_usable:
        yield "RFC 8866 §5.7", f"no packet can reach {' '.join(theirs[:3])}"
    multicast = ours is not None and ours.is_multicast
    if theirs is not None and ours is not None and theirs.is_multicast != multicast:
        yield (
            "RFC 3264 §6.1",
            f"{theirs.address} answers {ours.address}: one is multicast, the other unicast",
        )
    elif multicast and (theirs, answered.port) != (ours, offered.port):
        yield "RFC 3264 §6.2", "address and port of a multicast stream differ from the offer"
    if multicast and answered.direction != offered.direction:
        yield (
            "RFC 3264 §6.2",
            f"{answered.direction} answers {offered.direction} of a multicast stream",
        )
    elif (
        not multicast
        and answer_direction(offered.direction, answered.direction) != answered.direction
    ):
        yield "RFC 3264 §6.1", f"{answered.direction} answers {offered.direction}"
    mine, known = _formats(offered), _formats(answered)
    if not mine & known:
        yield "RFC 3264 §6.1", "no format in common with the offer"
    elif multicast and not known <= mine:
        yield "RFC 3264 §6.2", "formats that are not in the offer of a multicast stream"
    nameless = set(answered.formats) - set(answered.rtpmaps) if answered.is_rtp else ()
    for fmt in sorted(nameless):
        yield "RFC 3264 §6.1", f"payload type {fmt} has no a=rtpmap"
    if answered.is_rtp:
        yield from _fmtp_faults(offered, answered)


def _fmtp_faults(
    offered: MediaDescription, answered: MediaDescription
) -> Iterable[tuple[str, str]]:
    """Yield the format parameters that an answer must not change, but has changed.

    A format of the answer is compared with the offered format of the same number. If that one has
    another meaning, it is compared with all offered formats of its own meaning. A telephone-event
    with another clock rate than the audio is not reported: many peers answer so, and only those
    events are lost.
    """
    rtpmaps, parameters, written = offered.rtpmaps, offered.fmtps, answered.fmtps
    for fmt, rtpmap in answered.rtpmaps.items():
        alike = [number for number, meant in rtpmaps.items() if meant.key == rtpmap.key]
        candidates = [fmt] if fmt in alike else alike
        section = (
            fmtp_fault(rtpmap.encoding, map(parameters.get, candidates), written.get(fmt))
            if candidates
            else None
        )
        if section is not None:
            shown = written.get(fmt) or "no parameters"
            asked = " or ".join(parameters.get(number) or "none" for number in candidates)
            yield section, f"{shown} of {rtpmap.encoding} for {asked}"


def _formats(section: MediaDescription) -> frozenset[object]:
    """Return the formats as they are compared: for RTP by the meaning of their payload types."""
    if section.is_rtp:
        return frozenset(rtpmap.key for rtpmap in section.rtpmaps.values())
    return frozenset(fmt.lower() for fmt in section.formats)


def check_answer(offer: SDP, answer: SDP) -> None:
    """Check an answer to this offer.

        try:
            check_answer(offer, SDP.parse(response.body))
        except ParseError:
            call.hangup()

    Raises:
        ParseError: with status 488, the first of answer_faults().
        TypeError: one of them is not an SDP.
    """
    check_description("offer", offer)
    check_description("answer", answer)
    _raise_first(answer_faults(offer, answer), answer)


def modification_faults(previous: SDP, new: SDP) -> list[Fault]:
    """Return what is wrong with a later offer or answer of the side that sent `previous` (§8)."""
    if new == previous:
        return []
    faults = _origin_faults(previous, new)
    if len(new.media) < len(previous.media):
        faults.append(
            Fault("RFC 3264 §8", f"{len(new.media)} m= lines after {len(previous.media)}")
        )
    for index, (before, after) in enumerate(zip(previous.media, new.media)):
        if not before.is_disabled and not after.is_disabled and before.media == after.media:
            meant = before.rtpmaps
            for fmt, rtpmap in after.rtpmaps.items():
                if (
                    rtpmap.payload_type in DYNAMIC_PAYLOAD_TYPES
                    and fmt in meant
                    and meant[fmt].key != rtpmap.key
                ):
                    problem = (
                        f"payload type {fmt} is {rtpmap.encoding}, and was {meant[fmt].encoding}"
                    )
                    faults.append(Fault("RFC 3264 §8.3.2", problem, index))
    return faults


def _origin_faults(previous: SDP, new: SDP) -> list[Fault]:
    try:
        before, after = previous.origin, new.origin
    except ParseError as error:  # other functions tolerate this, but here the versions are compared
        return [Fault("RFC 8866 §5.2", f"o= cannot be read: {error.problem}")]
    faults: list[Fault] = []
    old_version, version = before.session_version, after.session_version
    if after._replace(session_version=old_version) != before:
        faults.append(Fault("RFC 3264 §8", "o= has changed in more than its version"))
    if version == old_version:
        faults.append(Fault("RFC 3264 §8", f"changed, but still version {version}"))
    elif version != old_version + 1:
        faults.append(Fault("RFC 3264 §8", f"version {version} after {old_version}"))
    return faults


def check_modification(previous: SDP, new: SDP) -> None:
    """Check a later offer or answer of the side that sent `previous`.

    Raises:
        ParseError: with status 488 (RFC 6337 §2.3), the first of modification_faults().
        TypeError: one of them is not an SDP.
    """
    check_description("previous", previous)
    check_description("new", new)
    _raise_first(modification_faults(previous, new), new)


def _raise_first(faults: Sequence[Fault], faulty: SDP) -> None:
    if faults:
        raise ParseError(str(faults[0]), header="SDP", status=488, source=bytes(faulty))
