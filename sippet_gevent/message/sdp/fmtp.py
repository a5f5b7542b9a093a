"""Format parameters in answers, RFC 8866 §6.15 and RFC 3264 §6.1: a rule for each encoding. Pure.

| encoding        | rule                                                                                            |
|-----------------|-------------------------------------------------------------------------------------------------|
| AMR, AMR-WB     | configuration and mode-set as offered, or refused; the rest is ours (RFC 4867 §8.3.1)           |
| H264            | packetization-mode and profile as offered, or refused; the lower level (RFC 6184 §8.2.2)        |
| G729*, G723     | `annexb=no` and `annexa=no` of either side apply to both (RFC 7261 §3)                          |
| iLBC            | the longer frame of the two modes (RFC 3952 §5)                                                 |
| opus            | ours: every parameter describes the side that writes it (RFC 7587 §7.1)                         |
| telephone-event | the events that both sides have (RFC 4733 §2.5.1.1)                                             |
| rtx, red        | refused if they name a payload type that is refused (RFC 4588 §8.1, RFC 2198 §5)                |
| any other       | ours if we have some, else those offered: the same parameters mean the same format (RFC 3264 §6.1) |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from .codec import DEFAULT_EVENTS, Codec

Fmtp = Callable[[Codec, str | None], str | Literal[False] | None]
"""A function that agrees on format parameters: of our codec and of the text offered.

It returns the text to answer with, None for no parameters, or False to refuse the format.
agree_fmtp() is one.
"""

MAX_EVENT = 255  # RFC 4733 §2.3.1: one byte

EVENT_RANGES = 256
"""Most elements of a list of events that are read. There are 256 events."""

PARAMETERS = 256
"""Most parameters of one format that are read. Real formats have fewer than twenty."""


class _Parameters(dict[str, str]):
    """The parameters of one format: the values by name in lower case.

    `texts` has each parameter as it is written.
    """

    texts: dict[str, str]

    def __init__(self, text: str | None) -> None:
        super().__init__()
        self.texts = {}
        for piece in (text or "").split(";", PARAMETERS)[:PARAMETERS]:
            name, _, value = piece.partition("=")
            name = name.strip().lower()
            if name and name not in self:
                self[name] = value.strip()
                self.texts[name] = piece.strip()


def _joined(pieces: Iterable[str]) -> str | None:
    return "; ".join(pieces) or None


class Rule(NamedTuple):
    """How the two sides agree on the parameters of an encoding.

    `agree(ours, offered)` returns the text to answer with, None for no parameters, or False to
    refuse the format. `keeps(offered, answered)` is False if an answer has changed a parameter that
    it must return unchanged. `section` says so.
    """

    agree: Callable[[str | None, str | None], str | Literal[False] | None]
    section: str = ""
    keeps: Callable[[str | None, str | None], bool] | None = None


# ---- AMR and AMR-WB, RFC 4867 §8.3.1

_FLAGS = ("octet-align", "crc", "robust-sorting")
_RETURNED = (*_FLAGS, "interleaving", "mode-set")
_is_number = re.compile(r"[0-9]{1,9}").fullmatch


def _amr_configuration(parameters: _Parameters) -> tuple[object, ...] | None:
    """Return the parameters that decide the form of packets, or None if one has no valid value.

    Checksums, robust sorting and interleaving imply `octet-align` (§8.1).
    """
    aligned, crc, is_sorted = (parameters.get(name, "0") for name in _FLAGS)
    interleaving = parameters.get("interleaving")
    if not {aligned, crc, is_sorted} <= {"0", "1"} or (
        interleaving is not None and not _is_number(interleaving)
    ):
        return None
    is_aligned = "1" in (aligned, crc, is_sorted) or interleaving is not None
    return is_aligned, crc, is_sorted, interleaving and int(interleaving)


def _modes(parameters: _Parameters, highest: int) -> frozenset[int] | None:
    """Return the codec modes of a mode-set, or None if it cannot be read. Without one, all modes apply."""
    text = parameters.get("mode-set")
    if text is None:
        return frozenset(range(highest + 1))
    modes = [mode.strip() for mode in text.split(",")]
    if not all(_is_number(mode) and int(mode) <= highest for mode in modes):
        return None
    return frozenset(map(int, modes))


def _changes_slowly(parameters: _Parameters) -> bool:
    """True if a side wants, or is able, to change modes at every second frame only."""
    return "2" in (parameters.get("mode-change-period"), parameters.get("mode-change-capability"))


def _amr(highest: int) -> Rule:
    def agree(ours: str | None, offered: str | None) -> str | Literal[False] | None:
        theirs, mine = _Parameters(offered), _Parameters(ours)
        configuration, modes = _amr_configuration(theirs), _modes(theirs, highest)
        if configuration is None or modes is None:
            return False
        if ours is not None:
            known = _modes(mine, highest)
            if configuration != _amr_configuration(mine):
                return False
            if "mode-set" in theirs and (known is None or not modes <= known):
                return False  # it must be returned unchanged, or the format refused
            for one, other in ((theirs, mine), (mine, theirs)):
                if one.get("mode-change-period") == "2" and not _changes_slowly(other):
                    return False
        returned = [theirs.texts[name] for name in theirs if name in _RETURNED]
        # What the offer leaves to us. Our own mode-set counts only if the offer has none.
        free = [
            mine.texts[name]
            for name in mine
            if name not in _RETURNED or (name == "mode-set" and name not in theirs)
        ]
        return _joined([*returned, *free])

    def keeps(offered: str | None, answered: str | None) -> bool:
        theirs, mine = _Parameters(answered), _Parameters(offered)
        if _amr_configuration(theirs) != _amr_configuration(mine):
            return False
        return "mode-set" not in mine or _modes(theirs, highest) == _modes(mine, highest)

    return Rule(agree, "RFC 4867 §8.3.1", keeps)


# ---- H.264, RFC 6184 §8.2.2

_DEFAULT_PROFILE = "42000a"  # §8.1: Baseline, level 1
_is_profile = re.compile(r"[0-9A-Fa-f]{6}").fullmatch

# §8.1, table 5: profile_idc, which bits of profile-iop count, and their values. Any other profile
# equals only itself.
_PROFILES = (
    ("constrained baseline", 0x42, 0b01001111, 0b01000000),
    ("constrained baseline", 0x4D, 0b10001111, 0b10000000),
    ("constrained baseline", 0x58, 0b11001111, 0b11000000),
    ("baseline", 0x42, 0b01001111, 0b00000000),
    ("baseline", 0x58, 0b11001111, 0b10000000),
    ("main", 0x4D, 0b10101111, 0b00000000),
    ("extended", 0x58, 0b11001111, 0b00000000),
)
_LEVEL_1B = 10.5


def _profile(text: str) -> tuple[object, float] | None:
    """Return a profile and its level, or None for malformed text. Level 1b is between 1 and 1.1."""
    if not _is_profile(text):
        return None
    idc, iop, level = bytes.fromhex(text)
    names = [
        name for name, number, mask, value in _PROFILES if number == idc and iop & mask == value
    ]
    has_constraint_3 = idc in (0x42, 0x4D, 0x58) and bool(iop & 0b00010000)
    is_1b = level == 9 or (level == 11 and has_constraint_3)
    return names[0] if names else (idc, iop), _LEVEL_1B if is_1b else level


def _h264_agree(ours: str | None, offered: str | None) -> str | Literal[False] | None:
    theirs, mine = _Parameters(offered), _Parameters(ours)
    wanted = _profile(theirs.get("profile-level-id", _DEFAULT_PROFILE))
    if wanted is None:
        return False
    if ours is not None and mine.get("packetization-mode", "0") != theirs.get(
        "packetization-mode", "0"
    ):
        return False
    returned = [
        theirs.texts[name] for name in theirs if name in ("packetization-mode", "profile-level-id")
    ]
    own = mine.get("profile-level-id")  # without one we accept any profile
    if own is not None:
        known = _profile(own)
        if known is None or known[0] != wanted[0]:
            return False
        is_asymmetric = all(side.get("level-asymmetry-allowed") == "1" for side in (mine, theirs))
        if is_asymmetric or known[1] < wanted[1]:
            returned = [text for text in returned if text != theirs.texts.get("profile-level-id")]
            returned.append(mine.texts["profile-level-id"])
    free = [
        mine.texts[name] for name in mine if name not in ("packetization-mode", "profile-level-id")
    ]
    return _joined([*returned, *free])


def _h264_keeps(offered: str | None, answered: str | None) -> bool:
    theirs, mine = _Parameters(answered), _Parameters(offered)
    if theirs.get("packetization-mode", "0") != mine.get("packetization-mode", "0"):
        return False
    profiles = [_profile(side.get("profile-level-id", _DEFAULT_PROFILE)) for side in (theirs, mine)]
    return None not in profiles and profiles[0][0] == profiles[1][0]  # type: ignore[index]  # none is None


# ---- the others


def _annex(name: str) -> Rule:
    """Return the rule of a parameter that turns comfort noise on or off (RFC 7261 §3).

    Comfort noise is used unless one side refuses it: `no` wins over `yes`, the default.
    """

    def agree(ours: str | None, offered: str | None) -> str | Literal[False] | None:
        theirs, mine = _Parameters(offered), _Parameters(ours)
        if theirs.get(name, "yes").lower() != "no":
            return (offered or None) if ours is None else ours
        return _joined([theirs.texts[name], *(mine.texts[key] for key in mine if key != name)])

    return Rule(agree)


def _ilbc(ours: str | None, offered: str | None) -> str | Literal[False] | None:
    if ours is None:
        return offered or None
    theirs, mine = _Parameters(offered), _Parameters(ours)
    if theirs.get("mode", "30") == mine.get("mode", "30"):
        return ours
    return _joined(["mode=30", *(mine.texts[name] for name in mine if name != "mode")])


def _declared(ours: str | None, offered: str | None) -> str | Literal[False] | None:
    return ours


def _events(text: str) -> frozenset[int]:
    """Return the numbers of "0-15,66". Malformed elements are left out."""
    events: set[int] = set()
    for piece in text.split(",", EVENT_RANGES)[:EVENT_RANGES]:
        first, dash, last = piece.strip().partition("-")
        last = last if dash else first
        if all(
            number.isascii() and number.isdigit() and len(number) <= 3 for number in (first, last)
        ):
            events.update(range(int(first), min(int(last), MAX_EVENT) + 1))
    return frozenset(events)


def _common_events(ours: str | None, theirs: str | None) -> str | Literal[False] | None:
    offered = _events(theirs or DEFAULT_EVENTS)
    common = sorted(_events(ours or DEFAULT_EVENTS) & offered)
    if not common:
        return False
    if len(common) == len(offered):
        return theirs or None
    runs: list[list[int]] = []
    for event in common:
        if runs and runs[-1][-1] == event - 1:
            runs[-1][1:] = [event]
        else:
            runs.append([event])
    return ",".join("-".join(map(str, run)) for run in runs)


RULES: dict[str, Rule] = {
    "amr": _amr(7),
    "amr-wb": _amr(8),
    "h264": Rule(_h264_agree, "RFC 6184 §8.2.2", _h264_keeps),
    "g729": _annex("annexb"),
    "g729d": _annex("annexb"),
    "g729e": _annex("annexb"),
    "g723": _annex("annexa"),
    "ilbc": Rule(_ilbc),
    "opus": Rule(_declared),
    "telephone-event": Rule(_common_events),
}
"""The rules by encoding in lower case."""


def agree_fmtp(codec: Codec, offered: str | None) -> str | Literal[False] | None:
    """Return the format parameters to answer with. answer() calls this unless it gets another `fmtp`.

    The table at the top of this module has the rules. A codec without `fmtp` accepts what is
    offered. A codec with it has the defaults of its RFC for each parameter that it leaves out. But
    an H264 codec without profile-level-id accepts any profile.

    Args:
        codec: ours, whose encoding, clock rate and channels are those of the offered format.
        offered: the text of the a=fmtp in the offer, or None.

    Returns:
        The text to answer with, None for no parameters, or False to refuse the format.
    """
    rule = RULES.get(codec.encoding.lower())
    if rule is not None:
        return rule.agree(codec.fmtp, offered)
    return (offered or None) if codec.fmtp is None else codec.fmtp


def refers_to(encoding: str, text: str | None) -> list[str]:
    """Return the payload types that the parameters of rtx and red name.

    These are `apt` of rtx (RFC 4588 §8.1) and the list of red (RFC 2198 §5).
    """
    encoding = encoding.lower()
    if encoding == "rtx":
        return [_Parameters(text).get("apt", "")]
    return (
        [piece.strip() for piece in (text or "").split("/")] if encoding == "red" and text else []
    )


def fmtp_fault(encoding: str, offered: Iterable[str | None], answered: str | None) -> str | None:
    """Return the section that an answer's format parameters break, or None.

    Nothing is broken if they fit at least one of those `offered`.
    """
    rule = RULES.get(encoding.lower())
    if rule is None or rule.keeps is None or any(rule.keeps(one, answered) for one in offered):
        return None
    return rule.section
