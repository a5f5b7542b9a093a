"""Settings of `sippet serve`: their types, and the table of their keys. Pure.

A key is a row of ROWS. The reader of files, the options of the command line and the test of the
sample file walk this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from ..message.parser import DEFAULT_LIMITS
from ..runtime.limits import Limits, StreamLimits
from . import kinds
from .kinds import Kind

ALGORITHMS = ("SHA-512-256", "SHA-256", "MD5")


@dataclass(frozen=True)
class TrunkSettings:
    """A trunk: an account at a carrier, and which calls go to it."""

    name: str
    account: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    registrar: str | None = None
    proxy: str | None = None
    display_name: str | None = None
    register: bool = True
    expires: int = 3600
    probe: float = 30.0
    numbers: tuple[str, ...] = ()
    pattern: str | None = None
    strip: str = ""
    prepend: str = ""
    caller_id: str | None = None
    caller_ids: Mapping[str, str] = field(default_factory=dict)
    next_on: tuple[int, ...] | None = None
    ring: float = 0.0
    peers: tuple[str, ...] = ()
    anonymous: bool = True
    incoming: str | None = None
    incoming_numbers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """All settings of `sippet serve`."""

    core: str | None = None
    listen: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    database: str | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    users_file: str | None = None
    algorithms: tuple[str, ...] = ()
    open: bool = False
    wait: bool = False
    monkey: bool = False
    drain: float = 32.0
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    tls_client_ca: str | None = None
    web_origins: tuple[str, ...] | None = None
    filters_scanners: bool = False
    filters_rate: float | None = None
    filters_exempt: tuple[str, ...] | None = None
    bans_failures: int = 10
    bans_source_failures: int = 50
    bans_within: float = 300.0
    bans_seconds: float = 900.0
    bans_command: tuple[str, ...] = ()
    log_level: str = "info"
    log_file: str | None = None
    log_messages: bool = False
    limits: Limits = field(default_factory=Limits)
    trunks: tuple[TrunkSettings, ...] = ()

    @property
    def has_users(self) -> bool:
        """True if the default server knows users, so that it asks for passwords."""
        return bool(self.database is not None or self.users or self.users_file is not None)


class Row(NamedTuple):
    """A key of the configuration.

    `listen` and `trunks` are tables that may occur several times; their keys are rows, too.
    """

    key: str
    """Its name with its table: `tls.certificate`."""
    kind: Kind
    help: str
    example: str
    """A value as it is written in the file."""
    option: str | None = None
    """The option of the command line; None for a key of an option's text, such as --trunk, and for
    passwords, which other users of the machine could see in a list of processes."""
    metavar: str | None = None
    reloads: bool = True
    """False if only a restart changes it."""

    @property
    def table(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


_OWN_ROWS = (
    Row("core", kinds.CORE, "the core to run, such as myapp:core or ./app.py:core; default: the "
        "registrar and proxy", '"myapp:core"', "core", "MODULE_OR_FILE:CORE", reloads=False),
    Row("domains", kinds.TEXTS, "domain whose phones may register; repeatable; default: any "
        "domain. The first one also has the addresses of this server", '["office.example"]',
        "--domain", "NAME"),
    Row("aliases", kinds.PAIRS, "another name or address of a --domain, by default of the first; "
        "repeatable", '{ "sip.office.example" = "office.example" }', "--alias", "NAME[=DOMAIN]"),
    Row("database", kinds.PATH, "SQLite file with the users of `sippet user`; the server asks for "
        "passwords. The bindings of their phones are kept in it, too, and survive a restart. It is "
        "created if it does not exist; default: in memory, without passwords", '"phones.db"',
        "--database", "FILE", reloads=False),
    Row("users", kinds.SECRETS, "users of the first domain with their passwords",
        '{ alice = "secret" }'),
    Row("users_file", kinds.FILE, "users in a file of htdigest, with lines of "
        "user:domain:HA1; an HA1 may be of MD5 or SHA-256", '"users.htdigest"', "--users-file",
        "FILE"),
    Row("algorithms", kinds.some_of(*ALGORITHMS), "digest algorithm to offer: SHA-512-256, SHA-256 "
        "or MD5, strongest first; repeatable; default: SHA-256, MD5", '["SHA-256", "MD5"]',
        "--algorithm", "NAME"),
    Row("open", kinds.FLAG, "ask for no passwords: everybody that reaches an address may register "
        "and call", "false", "--open", reloads=False),
    Row("wait", kinds.FLAG, "wait for an address that another program uses, in place of an error",
        "false", "--wait", reloads=False),
    Row("monkey", kinds.FLAG, "call gevent.monkey.patch_all() first, so that blocking libraries "
        "yield", "false", "--monkey", reloads=False),
    Row("drain", kinds.SECONDS, "longest time to finish requests and calls after SIGTERM; "
        "default 32", "32", "--drain", "SECONDS", reloads=False),
    Row("listen.address", kinds.TEXT, "address to listen on: udp:, tcp:, tls:, ws: or wss:",
        '"udp:192.0.2.10:5060"', reloads=False),
    Row("listen.name", kinds.TEXT, "its name, for programs", '"inside"', reloads=False),
    Row("listen.advertise", kinds.TEXT, "host, or host and port, to write into messages",
        '"203.0.113.7"', reloads=False),
    Row("listen.proxy", kinds.NETWORKS, "load balancers that send a PROXY header first",
        '["192.0.2.0/24"]', reloads=False),
    Row("tls.certificate", kinds.PEM, "certificate and its chain for tls: and wss:, in PEM",
        '"chain.pem"', "--cert", "FILE"),
    Row("tls.key", kinds.PEM, "private key, if it is not in the file of --cert", '"key.pem"',
        "--key", "FILE"),
    Row("tls.ca", kinds.PEM, "authorities that sign the certificates of TLS servers; default: "
        "those of the system", '"ca.pem"', "--ca", "FILE"),
    Row("tls.client_ca", kinds.PEM, "authorities that sign the certificates of clients, which "
        "must then present one", '"clients.pem"', "--client-ca", "FILE"),
    Row("web.origins", kinds.TEXTS, "web page whose scripts may open a WebSocket; repeatable; "
        "default: any page", '["https://phone.example.com"]', "--origin", "URL", reloads=False),
    Row("filters.scanners", kinds.FLAG, "drop messages that name a scanner, such as "
        "friendly-scanner or sipvicious", "true", "--filter-scanners"),
    Row("filters.rate", kinds.RATE, "drop messages of a source that exceed N a second", "50",
        "--rate", "N"),
    Row("filters.exempt", kinds.NETWORKS, "network that --rate does not limit, such as "
        "192.0.2.0/24; repeatable; default: the loopback", '["192.0.2.0/24"]', "--exempt",
        "NETWORK"),
    Row("bans.failures", kinds.COUNT, "wrong passwords for one user from one source before its "
        "requests for that user are refused; default 10", "10", "--ban-failures", "N"),
    Row("bans.source_failures", kinds.COUNT, "wrong passwords from one source before all its "
        "requests are refused; default 50", "50", "--ban-source-failures", "N"),
    Row("bans.within", kinds.SECONDS, "seconds in which they count; default 300", "300",
        "--ban-within", "SECONDS"),
    Row("bans.seconds", kinds.SECONDS, "seconds of a ban; default 900", "900", "--ban-seconds",
        "SECONDS"),
    Row("bans.command", kinds.TEXTS, "a word of the command to run for each ban, without a shell; "
        "{source}, {user} and {seconds} are replaced; repeatable",
        '["fwtool", "drop", "{source}"]', "--ban-command", "WORD"),
    Row("log.level", kinds.one_of("debug", "info", "warning", "error"), "least level of log lines: "
        "debug, info, warning or error; default info", '"info"', "--log-level", "LEVEL"),
    Row("log.file", kinds.PATH, "file for log lines, opened again at SIGHUP; default: stderr",
        '"sippet.log"', "--log-file", "FILE"),
    Row("log.messages", kinds.FLAG, "show each message, and the traceback of a core that cannot "
        "be loaded", "false", "--verbose", reloads=False),
    Row("trunks.account", kinds.AOR, "its address-of-record", '"sip:4930123@carrier.example"'),
    Row("trunks.user", kinds.USERNAME, "user name for the password; default: that of the account",
        '"4930123"'),
    Row("trunks.password", kinds.SECRET, "the password", '"secret"'),
    Row("trunks.password_file", kinds.FILE, "file with the password in its first line",
        '"carrier.password"'),
    Row("trunks.registrar", kinds.SIP_URI, "where to register; default: the host of the account",
        '"sip:registrar.carrier.example"'),
    Row("trunks.proxy", kinds.SIP_URI, "where all requests go first",
        '"sip:sbc.carrier.example"'),
    Row("trunks.display_name", kinds.TEXT, "the name that callees see", '"Example Ltd"'),
    Row("trunks.register", kinds.FLAG, "false if the carrier knows us by our address", "true"),
    Row("trunks.expires", kinds.EXPIRES, "seconds between two registrations at most", "3600"),
    Row("trunks.probe", kinds.SECONDS, "seconds between two OPTIONS; a trunk that does not answer "
        "gets no calls; 0 sends none", "30"),
    Row("trunks.numbers", kinds.TEXTS, "beginnings of numbers that go to this trunk",
        '["0", "+"]'),
    Row("trunks.pattern", kinds.PATTERN, "regular expression of the numbers that go to it",
        '"0[1-9][0-9]+"'),
    Row("trunks.strip", kinds.TEXT, "beginning to take off a number", '"0"'),
    Row("trunks.prepend", kinds.TEXT, "what to put before it then", '"+49"'),
    Row("trunks.caller_id", kinds.USER, "number that callees see; default: that of the account",
        '"+4930123"'),
    Row("trunks.caller_ids", kinds.USERS, "numbers that callees see, by user",
        '{ alice = "+49301231" }'),
    Row("trunks.next_on", kinds.STATUSES, "responses that try the next trunk",
        "[408, 480, 500, 502, 503, 504]"),
    Row("trunks.ring", kinds.SECONDS, "most seconds until a call is answered, then the next trunk "
        "is tried; default: as long as it rings", "40"),
    Row("trunks.peers", kinds.NETWORKS, "networks from which its calls come, besides the addresses "
        "of its server", '["192.0.2.0/24"]'),
    Row("trunks.anonymous", kinds.FLAG, "false refuses its calls whose caller hides its number, "
        "by 433", "true"),
    Row("trunks.incoming", kinds.USER, "user that gets its calls", '"alice"'),
    Row("trunks.incoming_numbers", kinds.USERS, "users that get calls to these numbers",
        '{ "+49301231" = "alice" }'),
)  # fmt: skip

FIXED_LIMITS = frozenset(
    ("errors_per_second", "errors_burst", "sources", "datagram", "keep", "memory",
     "memory_percent", "overload_control", "parser", "streams.handshakes", "streams.keep")
)  # fmt: skip
"""Limits that a running server has already put to use."""


_TUPLES = {
    "exempt": kinds.NETWORKS, "emergency": kinds.TEXTS, "resource_priority": kinds.TEXTS,
    "resource_priority_from": kinds.NETWORKS,
}  # fmt: skip
_EXAMPLES = {
    "exempt": '["192.0.2.0/24"]', "emergency": '["112"]', "resource_priority": '["ets.0"]',
    "resource_priority_from": '["192.0.2.0/24"]',
}  # fmt: skip


def _limit_rows() -> tuple[Row, ...]:
    """Return a row for each limit. Their reasons are in runtime/limits.py."""
    rows = []
    for table, limits in (("limits", Limits()), ("limits.streams", StreamLimits())):
        for each in fields(limits):
            value = getattr(limits, each.name)
            if each.name in ("streams", "parser"):
                continue
            kind = kinds.NUMBER
            if isinstance(value, bool):
                kind = kinds.FLAG
            elif isinstance(value, tuple):
                kind = _TUPLES.get(each.name, kinds.NUMBERS)
            example = str(list(value) if isinstance(value, tuple) else value).lower()
            example = _EXAMPLES.get(each.name, example)
            key = f"{table}.{each.name}"
            fixed = key.removeprefix("limits.") in FIXED_LIMITS
            default = "default: none" if each.name in _EXAMPLES else f"default {example}"
            rows.append(Row(key, kind, default, example, reloads=not fixed))
    for name, number in DEFAULT_LIMITS._asdict().items():
        text = f"default {number}"
        rows.append(Row(f"limits.parser.{name}", kinds.NUMBER, text, str(number), reloads=False))
    return tuple(rows)


ROWS: tuple[Row, ...] = _OWN_ROWS + _limit_rows()

BY_TABLE: dict[str, dict[str, Row]] = {}
for _row in ROWS:
    BY_TABLE.setdefault(_row.table, {})[_row.name] = _row

REPEATED = {"listen": "[[listen]]", "trunks": "[trunks.NAME]"}
"""Tables that may occur several times, and how they are written."""
