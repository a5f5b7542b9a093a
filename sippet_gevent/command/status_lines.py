"""StatusLines: prints a line for each event, and on a terminal a last line with the state."""

from __future__ import annotations

import time
from typing import TextIO

import gevent

from .terminal import painter, visible

TICK = 0.5
"""Seconds between two updates of the last line."""


class StatusLines:
    """Prints events with the seconds since the first one.

        lines = StatusLines(sys.stdout)
        lines.tell("ringing: 180 Ringing", live="ringing")
        lines.close()

    On a terminal, the last line shows the state and how long it lasts. Elsewhere only the events
    are printed, each as soon as it happens.

    Args:
        stream: Where to print.
        live: False prints events only, because other output is mixed in.
    """

    def __init__(self, stream: TextIO, live: bool = True) -> None:
        self._stream = stream
        self._paint = painter(stream)
        self._started = time.monotonic()
        self._state, self._since = "", self._started
        is_live = live and stream.isatty()
        self._ticker = gevent.spawn(self._tick) if is_live else None

    def tell(self, text: str, purpose: str | None = None, live: str = "") -> None:
        """Print an event.

        Args:
            text: What has happened.
            purpose: Its colour, see terminal.COLOURS.
            live: The state that begins with it, for the last line.
        """
        now = time.monotonic()
        if live != self._state:
            self._state, self._since = live, now
        shown = visible(text) if purpose is None else self._paint(visible(text), purpose)
        self._clear()
        self._stream.write(f"{now - self._started:7.1f}  {shown}\n")
        self._draw()
        self._stream.flush()

    def clear(self) -> None:
        """Remove the last line until the next event, before something else is printed."""
        self._state = ""
        self._clear()
        self._stream.flush()

    def close(self) -> None:
        """Remove the last line of the terminal."""
        if self._ticker is not None:
            self._ticker.kill(block=False)
            self._clear()
            self._stream.flush()
            self._ticker = None

    def _tick(self) -> None:
        while True:
            gevent.sleep(TICK)
            self._clear()
            self._draw()
            self._stream.flush()

    def _clear(self) -> None:
        if self._ticker is not None:
            self._stream.write("\r\x1b[K")

    def _draw(self) -> None:
        if self._ticker is not None and self._state:
            seconds = int(time.monotonic() - self._since)
            text = f"         {seconds // 60}:{seconds % 60:02} {self._state}"
            self._stream.write(self._paint(text, "faint"))
