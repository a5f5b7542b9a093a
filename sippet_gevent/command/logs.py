"""Where log lines of `sippet serve` go: stderr, or a file that is opened again at SIGHUP."""

from __future__ import annotations

import logging

from ..runtime import process
from .configuration import Words
from .settings import Settings
from .terminal import Mistake

log = logging.getLogger("sippet_gevent")

_HANDLERS: list[logging.Handler] = []


def set_up_log(settings: Settings, words: Words) -> None:
    """Log as the settings say, in place of the settings before. Raises Mistake, and changes
    nothing, if the file cannot be written."""
    handler = _handler(settings.log_file, words)
    root = logging.getLogger()
    level = logging.getLevelName(settings.log_level.upper())
    if handler is None and not _HANDLERS:
        process.log_to_stderr(min(level, logging.INFO))
    for old in _HANDLERS:
        root.removeHandler(old)
        old.close()
    _HANDLERS[:] = []
    if handler is not None:
        for stream in [each for each in root.handlers if type(each) is logging.StreamHandler]:
            root.removeHandler(stream)
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        _HANDLERS.append(handler)
    elif not root.handlers:
        process.log_to_stderr(logging.INFO)
    log.setLevel(logging.DEBUG if settings.log_messages else level)


def _handler(path: str | None, words: Words) -> logging.Handler | None:
    if path is None:
        return None
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise Mistake(
            f"{words.name('log.file')} cannot write {path}: {error.strerror}: write another file"
        ) from error
    handler.setFormatter(logging.Formatter(process.LOG_FORMAT))
    return handler
