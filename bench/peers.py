"""The same INVITE read by us and by other Python libraries: parse, read five fields, make the
bytes, change and make them.

The others are installed into a separate virtual environment, and each library has its own process.
The rounds of all are interleaved, and each is divided by the floor (the text cut into a dict) of
its own process and round. Below the table is what a library does not do: fields that stay text,
bytes that differ, broken messages that it accepts.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from invites import LARGE, SMALL, fresh
from parse import split_to_dict, time_of
from server import ROOT, Server, ServerError, python, stop_on_sigterm
from stateful import machine, progress

EXAMPLES = """examples:
  python bench/peers.py                          nine rounds of 1000 messages; installs the others
  python bench/peers.py --only compiled,opensip  these two
  python bench/peers.py --new-uris               with URIs that no cache has seen
  python bench/peers.py --small --json peers.json --plot peers.png
  python bench/peers.py --venv /tmp/peers        another place for the virtual environment
"""
FLOOR = "floor"
STEPS = {
    "parse": "parse",
    "fields": "and five fields",
    "bytes": "and bytes",
    "changed": "one changed, bytes",
}
FIELDS = ("From", "To", "CSeq", "Via", "Contact")
CHANGED = "67"  # the Max-Forwards of the changed message


# The libraries. Each function imports one and says how it is used, the way its own server code
# does.


class Library(NamedTuple):
    """`fields` reads with typed access; a field that it lacks is read by `text(message, name)`."""

    parse: Callable[[bytes], Any]
    text: Callable[[Any, str], str]
    fields: dict[str, Callable[[Any], Any]]
    change: Callable[[Any], None]
    format: Callable[[Any], bytes]


def ours():
    from sippet_gevent.message.parser import parse

    def from_(message):
        address = message.from_
        return address.tag, address.uri.user

    def change(message):
        message.max_forwards = int(CHANGED)

    return Library(
        parse,
        lambda message, name: message.headers[name],
        {
            "From": from_,
            "To": lambda message: message.to.uri.host,
            "CSeq": lambda message: message.cseq.number,
            "Via": lambda message: message.via[0].branch,
            "Contact": lambda message: message.contact[0].uri.host,
        },
        change,
        bytes,
    )


def aiovoip():
    from aiovoip.message import Message
    from aiovoip.via import Via

    def parse(data):
        head, body = data.split(b"\r\n\r\n", 1)
        message = Message.from_raw_headers(head)
        message._raw_payload = body
        return message

    def text(message, name):
        value = message.headers[name]
        return value if isinstance(value, str) else value[0]

    def from_(message):
        address = message.from_details
        return address["params"]["tag"], address["uri"]["user"]

    def change(message):
        message.headers["Max-Forwards"] = CHANGED

    return Library(
        parse,
        text,
        {
            "From": from_,
            "To": lambda message: message.to_details["uri"]["host"],
            "CSeq": lambda message: message.cseq,
            "Via": lambda message: Via.from_header(text(message, "Via"))["params"]["branch"],
            "Contact": lambda message: message.contact_details["uri"]["host"],
        },
        change,
        lambda message: message.encode(),
    )


def aiosipua():
    from aiosipua.message import SipMessage

    def from_(message):
        address = message.from_addr
        return address.tag, address.uri.user

    return Library(
        SipMessage.parse,
        lambda message, name: message.get_header(name),
        {
            "From": from_,
            "To": lambda message: message.to_addr.uri.host,
            "CSeq": lambda message: message.cseq.seq,
            "Via": lambda message: message.via[0].branch,
            "Contact": lambda message: message.contact[0].uri.host,
        },
        lambda message: message.set_header("Max-Forwards", CHANGED),
        bytes,
    )


def opensip():
    from opensip.headers import NameAddr, Via
    from opensip.message import parse_message

    def from_(message):
        address = NameAddr.parse(message.headers["From"])
        return address.params["tag"], address.uri.user

    return Library(
        parse_message,
        lambda message, name: message.headers[name],
        {
            "From": from_,
            "To": lambda message: NameAddr.parse(message.headers["To"]).uri.host,
            "CSeq": lambda message: message.cseq[0],
            "Via": lambda message: Via.parse(message.headers["Via"]).params["branch"],
            "Contact": lambda message: NameAddr.parse(message.headers["Contact"]).uri.host,
        },
        lambda message: message.headers.set("Max-Forwards", CHANGED),
        lambda message: message.encode(),
    )


def sipmessage():
    from sipmessage import Message

    def from_(message):
        address = message.from_address
        return address.parameters["tag"], address.uri.user

    def change(message):
        message.max_forwards = int(CHANGED)

    return Library(
        Message.parse,
        lambda message, name: message.headers[name],
        {
            "From": from_,
            "To": lambda message: message.to_address.uri.host,
            "CSeq": lambda message: message.cseq.sequence,
            "Via": lambda message: message.via[0].parameters["branch"],
            "Contact": lambda message: message.contact[0].uri.host,
        },
        change,
        bytes,
    )


def sippy():
    from sippy.SipRequest import SipRequest

    def from_(message):
        field = message.getHFBody("from")
        return field.getTag(), field.getUrl().username

    def change(message):
        message.getHFBody("max-forwards").number = int(CHANGED)

    return Library(
        lambda data: SipRequest(data.decode()),
        lambda message, name: message.getHF(name.lower()).body.body,
        {
            "From": from_,
            "To": lambda message: message.getHFBody("to").getUrl().host,
            "CSeq": lambda message: message.getHFBody("cseq").getCSeqNum(),
            "Via": lambda message: message.getHFBody("via").getBranch(),
            "Contact": lambda message: message.getHFBody("contact").getUrl().host,
        },
        change,
        lambda message: str(message).encode(),
    )


def twisted():
    from twisted.protocols.sip import MessagesParser, parseAddress, parseViaHeader

    messages = []
    parser = MessagesParser(messages.append)

    def parse(data):
        try:
            parser.dataReceived(data)
            parser.dataDone()
            return messages.pop()
        except Exception:
            parser.clearLineBuffer()
            parser.reset()
            raise

    def from_(message):
        _, uri, parameters = parseAddress(message.headers["from"][0])
        return parameters["tag"], uri.username

    def change(message):
        message.headers["max-forwards"] = [CHANGED]

    return Library(
        parse,
        lambda message, name: message.headers[name.lower()][0],
        {
            "From": from_,
            "To": lambda message: parseAddress(message.headers["to"][0])[1].host,
            "Via": lambda message: parseViaHeader(message.headers["via"][0]).branch,
            "Contact": lambda message: parseAddress(message.headers["contact"][0])[1].host,
        },
        change,
        lambda message: message.toString().encode(),
    )


class Contestant(NamedTuple):
    """A library, and what pip calls it; None is this checkout."""

    library: Callable[[], Library]
    package: str | None = None
    release: str = ""
    environment: dict[str, str] = {}  # noqa: RUF012  never changed


# Other releases may have other interfaces: the functions above are written to these.
CONTESTANTS = {
    "compiled": Contestant(ours, environment={"SIPPET_PUREPYTHON": ""}),
    "pure": Contestant(ours, environment={"SIPPET_PUREPYTHON": "1"}),
    "aiosipua": Contestant(aiosipua, "aiosipua", "0.7.1"),
    "aiovoip": Contestant(aiovoip, "aiovoip", "0.3.2"),
    "opensip": Contestant(opensip, "opensip", "0.2.1"),
    "sipmessage": Contestant(sipmessage, "sipmessage", "0.7.1"),
    "sippy": Contestant(sippy, "sippy", "2.5.0"),
    "twisted": Contestant(twisted, "Twisted", "26.10.0"),
}


# The messages.

_USERS = re.compile(rb"(?<=sip:)[a-z]+(?=@)")


def invite(options, number):
    data = fresh(SMALL if options.small else LARGE, number)
    return (
        _USERS.sub(lambda found: found.group() + b"%07d" % number, data)
        if options.new_uris
        else data
    )


def broken(options):
    """{what is wrong: the message}. Each breaks RFC 3261: §8.1.1 (what must be there), §18.3 (the
    body) or §25."""
    data = invite(options, 1)

    def without(pattern, instead=b""):
        return re.sub(pattern, instead, data, count=1, flags=re.MULTILINE)

    return {
        "no Call-ID": without(rb"^Call-ID: .*\n"),
        "two To": without(rb"^To: .*\n", b"To: <sip:a@example.com>\r\nTo: <sip:b@example.com>\r\n"),
        "CSeq without number": without(rb"^CSeq: .*\r", b"CSeq: one INVITE\r"),
        "CSeq of another method": without(rb"^CSeq: .*\r", b"CSeq: 1 BYE\r"),
        "Via without host": without(rb"^Via: .*\r", b"Via: SIP/2.0/UDP ;branch=z9hG4bK1\r"),
        "From without >": without(rb"^(From: .*)>", rb"\1"),
        "line without colon": without(rb"^Supported: .*\r", b"Supported\r"),
        "body cut off": without(rb"^Content-Length: .*\r", b"Content-Length: 9999\r"),
    }


# In the child.


def reason(error):
    return f"{type(error).__name__}: {error}".split("\n")[0][:100]


def read_fields(library, message, refused):
    """{name: value}, typed as far as it is possible; what was refused goes into `refused`."""
    values = {}
    for name in FIELDS:
        if name not in library.fields:
            refused[name] = "raw text"
        else:
            try:
                values[name] = library.fields[name](message)
                continue
            except Exception as error:
                refused[name] = f"raw text; typed access fails: {reason(error)}"
        values[name] = library.text(message, name)
    return values


def check(library, options):
    """What the library makes of one INVITE and of the broken ones: {step: result or {"fails":
    why}}."""
    refused, found = {}, {}
    steps = {
        "fields": lambda message: read_fields(library, message, refused),
        "bytes": lambda message: library.format(message).hex(),
        "changed": lambda message: (library.change(message), library.format(message).hex())[1],
    }
    try:
        message = library.parse(invite(options, 0))
    except Exception as error:
        return {"parse": {"fails": reason(error)}}
    for step, function in steps.items():
        try:
            found[step] = function(message)
        except Exception as error:
            found[step] = {"fails": reason(error)}
    taken = [
        why
        for why, data in broken(options).items()
        if takes(library, readers(library, refused), data)
    ]
    return {**found, "untyped": refused, "taken": taken}


def readers(library, untyped):
    """The functions that read the five fields in this bench: those that failed, or are not there,
    take the text."""
    return [
        library.fields[name]
        if name not in untyped
        else lambda message, name=name: library.text(message, name)
        for name in FIELDS
    ]


def takes(library, reading, data):
    """True when a broken message is read, and its five fields too, with nothing said."""
    try:
        message = library.parse(data)
        for read in reading:
            read(message)
    except Exception:
        return False
    return True


def cases(library, checked):
    """{step: function of the bytes}, the floor first; only steps that work."""
    parse, change, to_bytes = library.parse, library.change, library.format
    from_, to, cseq, via, contact = readers(library, checked.get("untyped", ()))

    def fields(data):
        message = parse(data)
        from_(message), to(message), cseq(message), via(message), contact(message)
        return message

    def changed(data):
        message = fields(data)
        change(message)
        return to_bytes(message)

    functions = {
        "parse": parse,
        "fields": fields,
        "bytes": lambda data: to_bytes(fields(data)),
        "changed": changed,
    }
    return {FLOOR: split_to_dict} | {
        step: function for step, function in functions.items() if not fails(checked, step)
    }


def fails(checked, step):
    """Why this step cannot be measured, or None."""
    for each in ("parse", "fields", step):
        result = checked.get(each)
        if isinstance(result, dict) and "fails" in result:
            return result["fails"]
    return None


def child(name, options):
    """Answer the parent's lines: first with the check, then with the microseconds of each round."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = sys.stderr  # some libraries print
    contestant = CONTESTANTS[name]
    library = contestant.library()
    checked = check(library, options)
    answer = {
        "version": version(contestant.package) if contestant.package else own_version(),
        "checked": checked,
    }
    print(json.dumps(answer), file=channel)
    functions = cases(library, checked)
    for line in sys.stdin:
        first = json.loads(line)["first"]
        spent = {}
        for step, function in functions.items():
            spent[step] = time_of(
                function, [invite(options, first + each) for each in range(options.times)]
            )
            first += options.times
        print(json.dumps(spent), file=channel)


def own_version():
    from sippet_gevent.message.parser import implementation

    return implementation


# In the parent.


def default_venv():
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "sippet-gevent-bench-peers"
    )


def install(venv, names):
    """Make the virtual environment and install; return `{name: reason}` of those that failed."""
    absent = {}
    pip = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ]
    if names and not (venv / "bin" / "python").exists():
        progress(f"making {venv}")
        subprocess.run(python("-m", "venv", str(venv)), check=True)
    for name in names:
        progress(f"installing {name}")
        contestant = CONTESTANTS[name]
        done = subprocess.run(
            [*pip, f"{contestant.package}=={contestant.release}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            absent[name] = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
    return absent


class Child:
    """The process of one contestant, and the rounds it has measured."""

    def __init__(self, name, options):
        self.name = name
        contestant = CONTESTANTS[name]
        program = str(options.venv / "bin" / "python") if contestant.package else sys.executable
        words = [program, __file__, "--child", name, "--times", str(options.times)]
        words += ["--small"] * options.small + ["--new-uris"] * options.new_uris
        self.server = Server(name, words, environment=contestant.environment, pipes=True)
        self.rounds = []
        self.server.start()
        self.about = self.hear()

    def hear(self):
        line = self.server.process.stdout.readline()
        if not line:
            raise ServerError(self.server.last_words())
        return json.loads(line)

    def round(self, first):
        pipe = self.server.process.stdin
        pipe.write(json.dumps({"first": first}).encode() + b"\n")
        pipe.flush()
        return self.hear()


def measure(options, names, absent):
    """Run all rounds; return {name: {"version", "checked", "rounds"}}."""
    children = []
    try:
        for name in names:
            progress(f"starting {name}")
            try:
                children.append(Child(name, options))
            except ServerError as error:
                absent[name] = str(error)
        for number in range(options.rounds + 1):
            turn = number % len(children) if children else 0
            for each in children[turn:] + children[:turn]:
                progress(f"round {number} of {options.rounds}: {each.name}")
                spent = each.round(1 + number * options.times * (len(STEPS) + 1))
                if number:  # the first round only warms up
                    each.rounds.append(spent)
    finally:
        progress("")
        for each in children:
            each.server.stop()
    return {each.name: {**each.about, "rounds": each.rounds} for each in children}


def ratios(result):
    """{step: median of the step by the floor of the same round}, for the steps that were
    measured."""
    rounds = result["rounds"]
    return {
        step: median(each[step] / each[FLOOR] for each in rounds)
        for step in STEPS
        if step in rounds[0]
    }


# What the libraries made of the message.


def differences(options, made, changed):
    """Return the differences between the bytes and the INVITE; [] when they mean the same."""
    from sippet_gevent.errors import ParseError
    from sippet_gevent.message.parser import parse

    wanted = parse(invite(options, 0))
    if changed:
        wanted.max_forwards = int(CHANGED)
    try:
        got = parse(made)
    except ParseError as error:
        return [f"we cannot read its bytes: {error}"]
    found = []
    if got.start_line != wanted.start_line:
        found.append(f"{wanted.start_line!r} became {got.start_line!r}")
    for name in {*wanted.headers, *got.headers}:
        if not same(wanted.headers, got.headers, name):
            before, after = (
                ", ".join(each.headers.all(name)) or "nothing" for each in (wanted, got)
            )
            found.append(f"{name}: {before} became {after}")
    if got.body != wanted.body:
        found.append(f"{len(wanted.body)} bytes of body became {len(got.body)}")
    return sorted(found)


def same(wanted, got, name):
    """Whether a header says the same in both, perhaps with other quotes or on more lines."""
    try:
        return wanted.get_header(name) == got.get_header(name)
    except ValueError:
        return wanted.all(name) == got.all(name)


def remarks(options, result):
    """Return the notes on one library's row of the table."""
    checked = result["checked"]
    lines = [f"{STEPS[step]} fails: {why}" for step in STEPS if (why := fails(checked, step))]
    if fails(checked, "parse"):
        return lines
    lines += [f"{name}: {why}" for name, why in checked["untyped"].items()]
    if not fails(checked, "fields"):
        message = ours().parse(invite(options, 0))
        for name, read in ours().fields.items():
            if name in checked["untyped"]:
                continue
            wanted, got = json.loads(json.dumps(read(message))), checked["fields"][name]
            if wanted != got:
                lines.append(f"{name}: reads {got!r} instead of {wanted!r}")
    for step in ("bytes", "changed"):
        if not fails(checked, step):
            there = differences(options, bytes.fromhex(checked[step]), step == "changed")
            lines += [line for line in (f"bytes: {each}" for each in there) if line not in lines]
    if taken := checked["taken"]:
        lines.append(
            f"says nothing to {len(taken)} of {len(broken(options))} broken ones: "
            f"{', '.join(taken)}"
        )
    return lines


# What is shown.


def table(results, absent):
    lines = [
        "                          floor us   times the floor of the same process and "
        "round (median)",
        f"                          (median) "
        f"{''.join(f'{heading:>20}' for heading in STEPS.values())}",
    ]
    for name, result in results.items():
        floor = median(each[FLOOR] for each in result["rounds"])
        of_step = ratios(result)
        cells = [cell(of_step, step, result["checked"]) for step in STEPS]
        values = "".join(f"{each:>20}" for each in cells)
        lines.append(f"{name:11} {result['version']:12}  {floor:8.2f} {values}".rstrip())
    lines += [f"{name:11} not installed: {why}" for name, why in absent.items()]
    if any(result["checked"].get("untyped") for result in results.values()):
        lines.append("* less work: one of the five fields is only taken as text")
    return "\n".join(lines)


def cell(of_step, step, checked):
    if step not in of_step:
        return "fails"
    return f"{of_step[step]:.2f}{'*' if step != 'parse' and checked['untyped'] else ' '}"


def notes(options, results):
    lines = []
    for name, result in results.items():
        lines += [
            f"{name}:",
            *(f"  {line}" for line in remarks(options, result) or ["nothing to remark"]),
        ]
    return "\n".join(lines)


def plot(results, path):
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(results)
    height = 0.8 / len(STEPS)
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.7 * len(names)))
    for place, (step, heading) in enumerate(STEPS.items()):
        at = [row + (place - 1.5) * height for row in range(len(names))]
        axes.barh(at, [ratios(results[name]).get(step, 0) for name in names], height, label=heading)
    axes.set_yticks(
        range(len(names)),
        [
            f"{name} {results[name]['version']}"
            + ("*" if results[name]["checked"].get("untyped") else "")
            for name in names
        ],
    )
    axes.invert_yaxis()
    axes.set_xlabel(
        "CPU time of one INVITE, times that of cutting its text into a dict (* a field stays text)"
    )
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default 9)")
    parser.add_argument(
        "--times", type=int, default=1000, help="messages per step and round (default 1000)"
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help=f"the INVITE of {len(SMALL)} bytes, not of {len(LARGE)}",
    )
    parser.add_argument(
        "--new-uris",
        action="store_true",
        help="use another user in the URIs of each message",
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        default=",".join(CONTESTANTS),
        help="libraries to measure, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--venv",
        type=Path,
        default=default_venv(),
        metavar="FOLDER",
        help="folder for the others, outside this checkout (default %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write every round to FILE")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the bars with matplotlib")
    parser.add_argument("--child", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        try:
            child(options.child, options)
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None
        return
    names = options.only.split(",")
    if unknown := [name for name in names if name not in CONTESTANTS]:
        parser.error(f"no such library: {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    if options.rounds < 1 or options.times < 1:
        parser.error("at least one round of one message")
    options.venv = options.venv.expanduser().absolute()
    if options.venv.resolve().is_relative_to(ROOT):
        parser.error("the virtual environment must be outside this checkout")

    stop_on_sigterm()
    sys.path.insert(0, str(ROOT))
    try:
        ours()
    except ImportError as error:
        raise SystemExit(
            f"bench: {error}: run it with the Python that has the package: pip install -e ."
        ) from error
    try:
        absent = install(options.venv, [name for name in names if CONTESTANTS[name].package])
        results = measure(options, [name for name in names if name not in absent], absent)
    except (ServerError, subprocess.CalledProcessError) as error:
        progress("")
        raise SystemExit(f"bench: {error}") from error
    if not results:
        raise SystemExit("\n".join(f"{name}: not installed: {why}" for name, why in absent.items()))

    print(
        f"{options.rounds} rounds of {options.times} INVITEs of {len(invite(options, 0))} bytes, "
        f"Python {platform.python_version()}, {'new' if options.new_uris else 'the same'} "
        f"URIs in each\n"
    )
    print(table(results, absent))
    print()
    print(notes(options, results))
    if options.json:
        with open(options.json, "w") as file:
            settings = {
                key: str(value) if key == "venv" else value for key, value in vars(options).items()
            }
            everything = {
                "machine": machine(),
                "options": settings,
                "libraries": results,
                "absent": absent,
            }
            json.dump(everything, file, indent=1)
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
