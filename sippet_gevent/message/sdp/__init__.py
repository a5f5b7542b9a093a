"""Session descriptions, RFC 8866: SDP, its media descriptions and their typed values. Pure.

What was parsed and not changed is written back byte for byte; what is assigned is written by the grammar of §9. What is
read is what the field sends, and that is a little more than the grammar:

| what is seen                                                    | what it is taken for                                 |
|-----------------------------------------------------------------|------------------------------------------------------|
| lines that end in LF, a last line without end (§5)              | as if they ended in CRLF                             |
| blank lines                                                     | nothing; kept                                        |
| a type letter of no meaning                                     | nothing; kept. §5 would have it ignored or refused   |
| lines of a section in an odd order                              | read, and kept where they stand                      |
| u=, e=, p=, t=, r=, z= behind an m= line                        | nothing; kept                                        |
| no s= line, or an empty one (RFC 3264 §10 looks like it)        | the name ""                                          |
| no t= line                                                      | t=0 0                                                |
| no c= line at all (streams with port 0 do without)              | connection None                                      |
| a second i=, u=, k=, a second c= of the session                 | nothing; kept. The first one counts                  |
| several blanks or tabs between fields, blanks at the end        | one blank, none                                      |
| o= with a user name that is empty or has blanks in it           | the five fields behind it are counted from the right |
| an address that is not of its addrtype, `IN IP4 2001:db8::1`    | the address as written                               |
| t= with a time of less than ten digits                          | that number                                          |
| z= without r= (RFC 4566 §5.11)                                  | adjustments of the t= line before it                 |
| b= that cannot be read, of whatever type (§5.8)                 | nothing; kept                                        |
| o= that cannot be read                                          | nothing, until somebody asks for `origin`; kept      |
| c= with an address that no packet can go to, `IN IP4 300.1.1.1` | as written; `is_usable` is False, answered by port 0 |
| c= with a group without TTL, or of the other addrtype (§5.7)    | as written; `is_usable` is False, answered by port 0 |
| c= with a TTL or a number of addresses behind a unicast address | as written                                           |
| G729a, G729b, G729ab on 18, G722/16000 on 9                     | G729/8000, G722/8000; answered as it is spelled      |
| m= with port 0 and no format                                    | formats ()                                           |
| a= without a name, or with one that is no token                 | an attribute of that name                            |
| blanks round an attribute's name, or before a value read here   | none                                                 |
| octets that are not UTF-8 (§6.10 has other character sets)      | surrogates (PEP 383), written as they came           |

All else raises ParseError: a line that is not `type=value`, NUL or CR in a line, no v= or o=, two of v=, o= or s= (which
is two descriptions in one, RFC 3264 §5), r= before any t=, numbers of v=, c=, t= and m= that are none, ports over 65535, too
many lines, media descriptions, formats or times. The values of attributes and of o= are read when asked for, and only then
found broken: `rtpmap(31)` of RFC 4475's `a=rtpmap:31 LPC` raises ParseError, and `rtpmaps` leaves it out.
"""

from .description import SDP
from .fmtp import agree_fmtp
from .grammar import (
    DIRECTIONS,
    FORMATS,
    INACTIVE,
    LINES,
    MEDIA_DESCRIPTIONS,
    RECVONLY,
    SENDONLY,
    SENDRECV,
    TIME_FIELDS,
    TIMES,
)
from .media import MediaDescription
from .offer import (
    G722,
    G729,
    OPUS,
    PCMA,
    PCMU,
    TELEPHONE_EVENT,
    Codec,
    Fault,
    MediaStream,
    add_stream,
    answer,
    answer_direction,
    answer_faults,
    check_answer,
    check_modification,
    hold,
    initial_offer,
    modification_faults,
    modify,
    remove_stream,
    resume,
)
from .values import (
    RTCP,
    STATIC_PAYLOAD_TYPES,
    Adjustment,
    Attribute,
    Bandwidth,
    Connection,
    MediaField,
    Origin,
    Repeat,
    RTPMap,
    Time,
)

__all__ = [
    "SDP",
    "MediaDescription",
    "RTCP",
    "STATIC_PAYLOAD_TYPES",
    "Adjustment",
    "Attribute",
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
