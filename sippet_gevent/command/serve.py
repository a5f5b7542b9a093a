"""`sippet serve`: run a core until a signal stops it.

With `--monkey`, gevent patches the standard library before the core is imported.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..errors import SIPError, TransportError
from ..observe.log_values import Quoted
from ..runtime.process import PROCESS
from .configuration import read_configuration
from .logs import set_up_log
from .office import Office
from .ports import start, wait_for_ports
from .reload import Reloader
from .terminal import tell
from .trace import log_to_stderr, show_messages

SAMPLE = Path(__file__).with_name("sample.toml")

log = logging.getLogger("sippet_gevent")


def serve(options: argparse.Namespace) -> int:
    """Run a core until SIGTERM or SIGINT, then drain.

    Returns:
        The exit code: 0, or 2 for a mistake, which is printed on stderr, a line for each.
    """
    if options.sample:
        print(SAMPLE.read_text("utf-8"), end="")
        return 0
    log_to_stderr(bool(options.log_messages), logging.INFO)
    with PROCESS.starting() as kept:
        return _serve(options, kept)


def _serve(options: argparse.Namespace, kept: set[int]) -> int:
    office = None
    try:
        configuration = read_configuration(vars(options))
        settings = configuration.settings
        office = Office(configuration, is_check=options.check)
        if options.check:
            print(f"{configuration.words.file or 'the options'}: the settings can be used")
            return 0
        set_up_log(settings, configuration.words)
        stack = office.stack
        if settings.log_messages:
            show_messages(stack)
        reloader = Reloader(office, vars(options))
        with reloader.installed(kept):
            # before the log lines, so that a bad address is the only line
            if settings.wait:
                wait_for_ports(stack.start, _tell_of_waiting)
            else:
                start(stack.start)
            office.tell()
            reloader.begin()
            stack.run(drain=settings.drain)
    except SIPError as error:
        for line in str(error).split("\n"):
            code = tell(line)
        return code
    finally:
        if office is not None:
            office.close()
    return 0


def _tell_of_waiting(error: TransportError) -> None:
    log.warning('waiting for an address: reason="%s"', Quoted(error))
