"""How sippet-gevent is built: metadata, and an optional extension in C.

SIPPET_BUILD_C=yes makes a failing compiler fail the build, as CI wants it. SIPPET_PUREPYTHON=1
builds without the extension.
"""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup

here = Path(__file__).parent
readme = here / "README.md"

must_build = os.environ.get("SIPPET_BUILD_C") == "yes"
# The stable ABI has no free-threaded build yet (PEP 703): pure Python there.
skip = os.environ.get("SIPPET_PUREPYTHON") or (
    sysconfig.get_config_var("Py_GIL_DISABLED") and not must_build
)


def extension(name: str) -> Extension:
    """Return an optional extension: `name` is that of its module."""
    return Extension(
        name,
        sources=[f"{name.replace('.', '/')}.c"],
        define_macros=[("Py_LIMITED_API", "0x030A0000")],
        py_limited_api=True,
        optional=not must_build,
    )


extensions = [extension("sippet_gevent.message._speedups")]
if sys.platform == "linux":
    extensions.append(extension("sippet_gevent.transport.datagram._bursts"))

# Optional parts of the library. sippet_gevent/extras.py names the extra when a package is missing.
extras = {
    "capture": ["dpkt>=1.9.8"],
    "docs": ["sphinx>=7.4", "myst-parser>=4", "furo>=2024.8.6", "sphinx-copybutton>=0.5.2"],
    "metrics": ["prometheus-client>=0.20"],
    "redis": ["redis>=5"],
    "websocket": ["h11>=0.14", "wsproto>=1.2"],
}
test = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "mypy>=1.11",  # tests hold what an editor shows
    "requests>=2.31",
    "httpx>=0.27",  # judges digests, as requests does
    "sdp-transform>=1.1",
    "trustme>=1.1",
    # A phone of the interop tests. It has wheels for x86-64 Linux and these versions only.
    "pjsua2-python>=2.15; sys_platform == 'linux' and platform_machine == 'x86_64'"
    " and python_version < '3.13'",
    *extras["capture"],
    *extras["redis"],
    *extras["websocket"],
]
lint = ["ruff>=0.6", "mypy>=1.11"]
bench = ["matplotlib>=3.8"]

setup(
    name="sippet-gevent",
    version="0.1.0",
    description="SIP middleware for gevent: message, transport, transaction and core layers",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    author="the sippet_gevent authors",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    keywords="SIP VoIP telephony gevent RFC3261 proxy B2BUA registrar",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Pytest",
        "Intended Audience :: Developers",
        "Intended Audience :: Telecommunications Industry",
        "Operating System :: POSIX",
        "Programming Language :: C",
        "Programming Language :: Python :: 3 :: Only",
        *[f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)],
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Communications :: Internet Phone",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    install_requires=[
        "dnspython>=2.6",
        "gevent>=24.11",
        "greenlet>=3.1",
        "h11>=0.14",
        "msgpack>=1.0.3",  # bindings in stores
        "tomli>=2; python_version < '3.11'",
        "wsproto>=1.2",
    ],
    extras_require={
        **extras,
        "test": test,
        "lint": lint,
        "bench": bench,
        "dev": [*test, *lint, *bench, *extras["docs"]],
    },
    entry_points={
        "console_scripts": ["sippet = sippet_gevent.__main__:main"],
        "pytest11": ["sippet_gevent = sippet_gevent.testing"],
    },
    packages=find_packages(include=["sippet_gevent", "sippet_gevent.*"]),
    package_data={"sippet_gevent": ["py.typed", "command/sample.toml"]},
    include_package_data=False,
    ext_modules=[] if skip else extensions,
    options={} if skip else {"bdist_wheel": {"py_limited_api": "cp310"}},
    zip_safe=False,
)
