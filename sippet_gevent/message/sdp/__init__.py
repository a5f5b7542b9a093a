"""Session descriptions, RFC 8866: SDP, its media descriptions and their typed values. Pure.

Lines that were parsed and not changed are written back byte for byte. Values that are assigned are
written by the grammar of §9. Real peers send more than the grammar allows, so parse() accepts more:

| line as received                                                | read as                                              |
|-----------------------------------------------------------------|------------------------------------------------------|
| lines that end in LF, a last line without a line end (§5)       | as if they ended in CRLF                             |
| blank lines                                                     | ignored; kept                                        |
| an unknown type letter                                          | ignored; kept. §5 permits to ignore or to refuse it  |
| lines of a section in another order                             | read; kept in that order                             |
| u=, e=, p=, t=, r=, z= behind an m= line                        | ignored; kept                                        |
| no s= line, or an empty one (as in RFC 3264 §10)                | the name ""                                          |
| no t= line                                                      | t=0 0                                                |
| no c= line at all (streams with port 0 need none)               | connection None                                      |
| a second i=, u=, k=, a second c= of the session                 | ignored; kept. The first one counts                  |
| several spaces or tabs between fields, spaces at the end        | one space, none                                      |
| o= with a user name that is empty or contains spaces            | the user name is all but the last five fields        |
| an address that is not of its addrtype, `IN IP4 2001:db8::1`    | the address as written                               |
| t= with a time of fewer than ten digits                         | that number                                          |
| z= without r= (RFC 4566 §5.11)                                  | adjustments of the t= line before it                 |
| b= that cannot be read, of any bwtype (§5.8)                    | ignored; kept                                        |
| o= that cannot be read                                          | kept; `origin` raises ParseError                     |
| c= with an address that no packet reaches, `IN IP4 300.1.1.1`   | as written; `is_usable` is False, answered by port 0 |
| multicast c= without TTL, or of the other addrtype (§5.7)       | as written; `is_usable` is False, answered by port 0 |
| c= with a TTL or a number of addresses behind a unicast address | as written                                           |
| G729a, G729b, G729ab on 18, G722/16000 on 9                     | G729/8000, G722/8000; answered as spelled            |
| m= with port 0 and no format                                    | formats ()                                           |
| a= without a name, or with a name that is no token              | an attribute of that name                            |
| spaces round an attribute's name, or before a value read here   | none                                                 |
| bytes that are not UTF-8 (§6.10 has other character sets)       | surrogates (PEP 383), written back unchanged         |

These raise ParseError:

* a line that is not `type=value`, NUL or CR in a line
* no v= or no o= line
* a second v=, o= or s= line, because it begins another description (RFC 3264 §5)
* r= before any t=
* malformed numbers in v=, c=, t= and m=, and ports over 65535
* too many lines, media descriptions, formats or times

The values of attributes and of o= are read only when a program asks for them. For example,
`rtpmap(31)` of `a=rtpmap:31 LPC` (RFC 4475) raises ParseError, and `rtpmaps` leaves it out.
"""

from .answers import answer
from .codec import G722, G729, OPUS, PCMA, PCMU, TELEPHONE_EVENT, Codec
from .description import SDP
from .direction import DIRECTIONS, INACTIVE, RECVONLY, SENDONLY, SENDRECV, answer_direction
from .faults import (
    Fault,
    answer_faults,
    check_answer,
    check_modification,
    modification_faults,
)
from .fmtp import Fmtp, agree_fmtp
from .grammar import FORMATS, LINES, MEDIA_DESCRIPTIONS, TIME_FIELDS, TIMES
from .media import MediaDescription
from .offers import add_stream, hold, initial_offer, modify, remove_stream, resume
from .payload_types import STATIC_PAYLOAD_TYPES, RTPMap
from .section import Attributes
from .stream import MediaStream
from .times import Adjustment, Repeat, Time
from .values import RTCP, Attribute, Bandwidth, Connection, MediaField, Origin

__all__ = [
    "SDP",
    "MediaDescription",
    "RTCP",
    "STATIC_PAYLOAD_TYPES",
    "Adjustment",
    "Attribute",
    "Attributes",
    "Bandwidth",
    "Connection",
    "MediaField",
    "Origin",
    "Repeat",
    "RTPMap",
    "Time",
    "G722",
    "G729",
    "OPUS",
    "PCMA",
    "PCMU",
    "TELEPHONE_EVENT",
    "Codec",
    "Fault",
    "Fmtp",
    "MediaStream",
    "add_stream",
    "agree_fmtp",
    "answer",
    "answer_direction",
    "answer_faults",
    "check_answer",
    "check_modification",
    "hold",
    "initial_offer",
    "modification_faults",
    "modify",
    "remove_stream",
    "resume",
    "DIRECTIONS",
    "FORMATS",
    "INACTIVE",
    "LINES",
    "MEDIA_DESCRIPTIONS",
    "RECVONLY",
    "SENDONLY",
    "SENDRECV",
    "TIME_FIELDS",
    "TIMES",
]
