"""The texts of `sippet --help` and of its verbs."""

from __future__ import annotations

DESCRIPTION = (
    "SIP for gevent programs: run a core, place a call, ask whether a peer answers, explain "
    "messages."
)

SERVE_EXAMPLES = """examples:
  sippet serve                                    registrar and proxy on udp:127.0.0.1:5060
  sippet serve -v --open --listen udp:192.0.2.10:5060  the same for your network, without passwords
  sippet user add alice@office.example --database phones.db
  sippet serve --database phones.db --domain office.example --listen udp:192.0.2.10:5060
  sippet serve --database phones.db --domain office.example --alias sip.office.example \\
               --listen tls:192.0.2.10:5061 --cert chain.pem --key key.pem
  sippet serve --database phones.db --domain office.example --listen wss:192.0.2.10:443 \\
               --cert chain.pem --key key.pem --origin https://phone.example.com
  sippet serve --config sippet.toml               all settings from a file
  sippet serve --sample > sippet.toml             begin with a file that explains all keys
  sippet serve --config sippet.toml --check       say what is wrong in it, and exit
  sippet serve myapp:core --filter-scanners       your own core, without the messages of scanners
  sippet serve myapp:core --monkey                your own core, with blocking libraries patched
  sippet serve examples/hello.py:stack            a Stack that a file makes
"""

EXAMPLES = f"""{SERVE_EXAMPLES.rstrip()}
  sippet call sip:bob@192.0.2.10 --duration 10    place a call, hang up 10 seconds after the answer
  sippet register sip:alice@office.example        register, and stay registered until Ctrl-C
  sippet message sip:bob@192.0.2.10 'Lunch?'      send a text
  sippet ping sip:192.0.2.10                      send OPTIONS, print the response and its delay
  sippet ping -v example.com                      also print each DNS answer and each target tried
  sippet parse call.pcap                          explain the messages of a capture and their faults
"""

SERVE = """Run a core until SIGTERM or Ctrl-C. A core is a function core(request, tx), a Core (class
or instance) or a Stack. Without one, the default server runs: registrar and proxy. With a
--database it asks for the passwords that `sippet user` has set. Without one it listens on loopback
only, unless you add --open. Each option is also a key of the file of --config. An option wins over
the file."""

SERVE_NOTES = """signals:
  SIGTERM, SIGINT   refuse new requests with 503, finish those in progress, exit;
                    a second one exits at once
  SIGHUP            read the file of --config and the certificates again; calls go on
  SIGUSR1           log counters and gauges

exit codes: 0 stopped by a signal, 2 an argument, the file, the core or the database is wrong, or an
address is taken

"""

USER = """Add, change, remove, list and import the users of a database. A server with that
--database asks for their passwords. The password is read from a prompt, or from a line of standard
input. The database has no passwords, but the HA1 values that digest authentication needs. An HA1
value is enough to log in to this domain, so only its owner may read the file."""

USER_NOTES = """exit codes:
  0    done
  1    the user exists already, or does not exist
  2    an argument, the password or the database is wrong
  130  Ctrl-C at the prompt

examples:
  sippet user add alice@example.com --database phones.db
  sippet user passwd alice@example.com --database phones.db < password.txt
  sippet user remove alice@example.com --database phones.db
  sippet user list --database phones.db
  sippet user import users.htdigest --database phones.db
"""

IMPORT_NOTES = """A user that exists gets the imported HA1. If a line is wrong, nothing is imported.

--format kamailio reads the table `subscriber` with a line of column names:
  mysql --batch -e 'SELECT username, domain, ha1 FROM subscriber' kamailio > subscriber.tsv
  sqlite3 -header -csv kamailio.sqlite 'SELECT username, domain, ha1 FROM subscriber'
If ha1 is empty, a column password is taken. The domain must be the realm of the challenges.

"""

REGISTER = """Register an address-of-record, print what the registrar says, and stay registered
until --duration or Ctrl-C. Then unregister. The password is asked for at the terminal if the
registrar wants one, or comes from --password-stdin or --password-file."""

REGISTER_NOTES = """exit codes:
  0    it was registered until the end
  1    the registrar has refused, or was not reached in time
  2    an argument, or the password, is wrong
  3    it was registered, and is no longer at the end
  130  Ctrl-C before it was registered

examples:
  sippet register sip:alice@office.example        until Ctrl-C
  sippet register sip:alice@office.example --registrar sip:192.0.2.10
  sippet register sip:alice@office.example --duration 0 --password-file alice.password
                                                  only try whether user and password are right
  pass sip/alice | sippet register sip:alice@office.example --password-stdin
"""

MESSAGE = """Send a text as a SIP MESSAGE, and print whether the peer has taken it. If the server
wants a password, it is asked for at the terminal, or comes from --password-stdin or
--password-file."""

MESSAGE_NOTES = """exit codes:
  0    the peer has taken the text, or its server keeps it
  1    it was refused, or there was no answer in time
  2    an argument, the text or the password is wrong
  130  Ctrl-C

examples:
  sippet message sip:bob@192.0.2.10 'Lunch?'
  sippet message sip:bob@office.example 'Lunch?' --from sip:alice@office.example
  sippet message sip:bob@office.example 'Lunch?' --outbound-proxy sip:192.0.2.10
  date | sippet message sip:bob@192.0.2.10 - --from sip:alice@office.example \\
                        --password-file alice.password
"""

PING = (
    "Send OPTIONS to a SIP URI. Print the status, the round-trip time and the address of the peer."
)

PING_NOTES = """exit codes: 0 a 2xx response, 1 any other response or none, 2 an argument is wrong

examples:
  sippet ping 192.0.2.10                          the same as sip:192.0.2.10
  sippet ping 'sip:bob@example.com' --timeout 2   wait two seconds for the response
  sippet ping 'sip:[2001:db8::10]:5070'
  sippet ping 'sip:192.0.2.10;transport=tcp'      in quotes, because of the semicolon
  sippet ping sips:example.com                    over TLS
"""

CALL = """Place a call and print a line for each thing that happens in it: ringing, answered, held,
digits, and which side ended it and why. It has no sound: it offers audio, and drops what it
receives. Ctrl-C cancels the call, or hangs up; a second one exits at once."""

CALL_NOTES = """On a terminal the last line shows the state of the call and for how long. Without
--duration the call lasts until the peer hangs up, or until Ctrl-C or SIGTERM.

exit codes:
  0    the call was answered, and everything asked for was done; either side has hung up
  1    the peer was not reached, has refused, or has not answered in time
  2    an argument is wrong
  3    the call was answered, but the peer has refused hold or digits, or the call has ended without
       a BYE, for example because its peer is gone
  130  Ctrl-C or SIGTERM has cancelled the call before it was answered

examples:
  sippet call sip:bob@192.0.2.10                  call, and talk until a side hangs up
  sippet call bob@192.0.2.10 --duration 10        hang up 10 seconds after the answer
  sippet call sip:menu@192.0.2.10 --digits 12#    send digits by INFO, a second after the answer
  sippet call sip:bob@192.0.2.10 --hold -v        hold and resume, and draw the messages at the end
  sippet call sip:bob@192.0.2.10 --from 'sip:alice@example.com'
  sippet call sip:0123@office.example --from sip:alice@office.example --password-file alice.password
  sippet call 'sip:192.0.2.10;transport=tcp' --sdp offer.sdp
"""

PARSE = """Explain SIP messages: show the value of each header field, and list the faults. All
header fields are read, optional ones too. After a broken message, the next one is read."""

PARSE_NOTES = """files:
  a text file   one message, or several, divided by Content-Length and by their start lines
  a capture     pcap or pcapng; IP fragments and TCP segments are reassembled;
                needs dpkt: pip install 'sippet-gevent[capture]'
  -             standard input, with either of these; the default

--json prints one object a line, always with these keys:
  file, number, offset (byte, in a text file), time, transport, source, destination (in a capture),
  bytes, kind (request, response, or null for neither), start_line, method, uri, status, reason,
  headers (name, text of each line, values as objects; null if they cannot be read),
  body (bytes, type, media lines), problems (header, problem, offset and line in the message, text),
  ok

exit codes: 0 all messages are in order, 1 one is broken or there is none, 2 a file cannot be read
Output has colours on a terminal only, and never when NO_COLOR is set. Passwords and credentials are
replaced by "...".

examples:
  sippet parse invite.txt                         one message in a text file
  sippet parse call.pcap                          those of a capture, with addresses and times
  tcpdump -w - -U port 5060 | sippet parse -      messages as they are captured
  sippet parse --json *.pcap | jq 'select(.ok == false) | .problems'
"""
