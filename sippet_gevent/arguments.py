"""Checks of the arguments that a program passes to the library. Pure.

Each check returns the value as the library uses it, or raises by the rule in errors.py. A value of
a wrong type raises TypeError. A value of the right type that is out of range or breaks the grammar
raises InvalidValue. The text names the argument, what it must be, the value, and what to
write instead:

    domains must be a tuple of names, got 'example.com': write domains=("example.com",)
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from .errors import InvalidValue, excerpt


def texts(argument: str, value: Any, what: str = "names") -> tuple[str, ...]:
    """Return a tuple of texts. A single text is refused, because a loop would see its letters."""
    if isinstance(value, str):
        raise TypeError(
            f"{argument} must be a tuple of {what}, got {excerpt(value)}: write "
            f"{argument}=({value!r},)"
        )
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(
            f'{argument} must be a tuple of {what}, got {excerpt(value)}: write {argument}=("…",)'
        )
    found = tuple(value)
    for each in found:
        if not isinstance(each, str):
            raise TypeError(
                f"{argument} must be a tuple of {what}, got {excerpt(each)} in it: write each "
                "as text"
            )
    return found


MOST = 10**15
"""Most of anything. More is a mistake, and might not fit where it is used."""

YEAR = 365 * 86400
"""Most seconds of a length of time. More is a mistake, such as a number of milliseconds."""


def whole(argument: str, value: Any, least: int = 0, most: float = MOST) -> int:
    """Return a whole number within these bounds."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(
            f"{argument} must be a whole number, got {excerpt(value)}: write "
            f"{argument}={max(least, 1)}"
        )
    return int(_within(argument, value, "a whole number", least, most))


def number(
    argument: str, value: Any, least: float = 0, most: float = MOST, *, above: bool = False
) -> float:
    """Return a finite number within these bounds; with `above`, it must be greater than `least`."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(
            f"{argument} must be a number, got {excerpt(value)}: write {_example(argument, value)}"
        )
    # an int may be too large for isfinite()
    if (isinstance(value, float) and not math.isfinite(value)) or (above and value == least):
        raise _outside(argument, value, "a finite number", least, most, above=above)
    checked: float = _within(argument, value, "a number", least, most, above=above)
    return checked


def duration(argument: str, value: Any, *, above: bool = False) -> float:
    """Return a length of time in seconds, YEAR at most; with `above`, it must be greater than 0."""
    return number(argument, value, most=YEAR, above=above)


def _within(
    argument: str, value: Any, what: str, least: float, most: float, *, above: bool = False
) -> Any:
    if not least <= value <= most:
        raise _outside(argument, value, what, least, most, above=above)
    return value


def _outside(
    argument: str, value: Any, what: str, least: float, most: float, *, above: bool
) -> InvalidValue:
    try:
        got = excerpt(value)
    except ValueError:  # Python does not write so many digits
        got = "one of thousands of digits"
    nearest = most if value > most else least + 1 if above else least
    write = f": write {argument}={nearest}" if argument.isidentifier() else ""
    bounds = _bounds(value, least, most, above)
    return InvalidValue(f"{argument} must be {what} {bounds}, got {got}{write}")


def _bounds(value: float, least: float, most: float, above: bool) -> str:
    if most not in (MOST, YEAR):
        return f"from {least} to {most}"
    if value > most:
        return f"of {most} or less"
    return f"greater than {least}" if above else f"of {least} or more"


def _example(argument: str, value: Any) -> str:
    """Return an example of the argument, with the number that the text contains."""
    try:
        return f"{argument}={float(value):g}"
    except (TypeError, ValueError):
        return f"{argument}=5.0"


def seconds(argument: str, value: Any) -> float | None:
    """Return the longest time to wait in seconds, or None for no limit. It is negative if the time
    is already over."""
    if value is None or type(value) is float or type(value) is int:
        if value != value:
            raise InvalidValue(f"{argument} must be a number of seconds or None, got nan")
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        write = _example(argument, value)
        raise TypeError(
            f"{argument} must be a number of seconds or None, got {excerpt(value)}: write {write}"
        )
    return seconds(argument, float(value))


def instance(argument: str, value: Any, kind: type | tuple[type, ...], write: str) -> Any:
    """Return a value of this type. `write` shows how to make one."""
    if not isinstance(value, kind):
        name = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise TypeError(f"{argument} must be of type {name}, got {excerpt(value)}: write {write}")
    return value


def optional(argument: str, value: Any, kind: type | tuple[type, ...], write: str) -> Any:
    """Return None or a value of this type."""
    return None if value is None else instance(argument, value, kind, write)


def flag(argument: str, value: Any) -> bool:
    """Return True or False. Text is refused, because "no" would be true."""
    if not isinstance(value, bool):
        raise TypeError(
            f"{argument} must be True or False, got {excerpt(value)}: write {argument}=True"
        )
    return value


def function(argument: str, value: Any, write: str) -> Any:
    """Return a callable or None."""
    if value is not None and not callable(value):
        raise TypeError(
            f"{argument} must be a function or None, got {excerpt(value)}: write {write}"
        )
    return value


def as_bytes(argument: str, value: Any) -> bytes:
    """Return the bytes of a body. Text becomes UTF-8; an object with `__bytes__`, such as an SDP,
    is formatted."""
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(f"{argument} cannot be written as UTF-8: {error}") from error
    if isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "__bytes__"):
        return bytes(value)
    more = ' and content_type="application/json"' if isinstance(value, (dict, list)) else ""
    how = f"json.dumps(…){more}" if more else "a text or bytes"
    raise TypeError(
        f"{argument} must be bytes or text, got {excerpt(value)}: write {argument}={how}"
    )


def received(argument: str, value: Any, call: str) -> bytes:
    """Return bytes from a network. `call` shows how to pass them, such as "parse({})"."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    write = call.format("text.encode()" if isinstance(value, str) else "the bytes that came")
    raise TypeError(f"{argument} must be bytes, got {excerpt(value)}: write {write}")


def status(value: Any, least: int = 100, most: int = 699, call: str = "") -> int:
    """Return a status code. `call` shows how to pass one, such as "Reject({})"."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        text = str(value)
        code = text if text.isdecimal() and len(text) == 3 else 486
        write = call.format(code) if call else str(code)
        raise TypeError(
            f"status must be a number of {least} to {most}, got {excerpt(value)}: write {write}"
        )
    if not least <= int(value) <= most:
        raise InvalidValue(f"status must be a number of {least} to {most}, got {value!r}")
    return int(value)


def takes(function: Any, parameters: tuple[str, ...], what: str) -> None:
    """Check that a callable of the application is a plain function of these positional arguments.
    Raises TypeError.

    Coroutine functions and generators are refused. A callable without a signature, such as some
    written in C, is accepted.
    """
    wanted = f"({', '.join(parameters)})"
    kinds: tuple[tuple[Callable[[Any], bool], str], ...] = (
        (inspect.iscoroutinefunction, "async def"),
        (inspect.isasyncgenfunction, "async def"),
        (inspect.isgeneratorfunction, "a generator"),
    )
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    for is_kind, kind in kinds:
        if is_kind(function) or is_kind(called):
            raise TypeError(
                f"{what} must be a plain function, got {name_of(function)}{wanted}, which is "
                f"{kind}: "
                "write def, and call what blocks as usual"
            )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        if inspect.isclass(function):
            name = name_of(function)
            raise TypeError(
                f"{what} must take {wanted}, got the class {name}: write {name}()"
            ) from None
        raise TypeError(
            f"{what} must take {wanted}, got {name_of(function)}{signature}: write def "
            f"{name_of(function)}{wanted}"
        ) from None


def name_of(function: Any) -> str:
    """Return the name of a callable for an error text."""
    name = getattr(function, "__name__", None)
    if name is None and hasattr(function, "func"):
        name = name_of(function.func)  # functools.partial
    return str(name or type(function).__name__)
