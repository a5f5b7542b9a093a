"""Optional packages: what works without them, and the error that names the extra."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sippet_gevent
from sippet_gevent.errors import InvalidValue
from sippet_gevent.extras import EXTRAS, missing

ROOT = Path(__file__).parent.parent
PYTHONPATH = str(Path(sippet_gevent.__file__).parent.parent)


def without(packages: tuple[str, ...], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in which these packages cannot be imported."""
    for name in packages:
        text = f"raise ModuleNotFoundError('no module {name}', name={name!r})\n"
        (folder / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(folder), PYTHONPATH])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_package_works_without_any_optional_package(tmp_path):
    code = (
        "from sippet_gevent import Stack, TLS, Web\n"
        "with Stack('udp:127.0.0.1:0', 'tcp:127.0.0.1:0', core=lambda request, tx: 200) as stack:\n"
        "    print(stack.request('OPTIONS', 'sip:' + stack.addresses[0][4:]).status)\n"
    )
    ended = without(tuple(EXTRAS), code, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "200\n"), ended.stderr


@pytest.mark.parametrize("package", ["h11", "wsproto"])
def test_websocket_address_without_its_packages_names_the_extra(package, tmp_path):
    code = "from sippet_gevent import Stack\nStack('ws:127.0.0.1:0')"
    ended = without((package,), code, tmp_path)
    assert ended.stderr.splitlines()[-1] == (
        f"sippet_gevent.errors.InvalidValue: ws: addresses need the package {package}: "
        "pip install 'sippet-gevent[websocket]'"
    )


def test_extras_of_the_table_are_extras_of_the_distribution():
    setup = (ROOT / "setup.py").read_text("utf-8")
    assert [extra for extra in EXTRAS.values() if f'    "{extra}": [' not in setup] == []


def test_missing_package_that_is_not_optional_is_raised_as_it_is():
    error = ModuleNotFoundError("No module named 'sipet'", name="sipet")
    with pytest.raises(ModuleNotFoundError) as raised:
        missing(error, "this")
    assert raised.value is error
    assert isinstance(missing(ModuleNotFoundError(name="redis.client"), "stores"), InvalidValue)
