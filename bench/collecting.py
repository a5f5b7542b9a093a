"""Python's garbage collector as `Stack.run()` sets it up, in servers with a loop of their own."""

import gc


def collect_as_served():
    """Collect as the package under test does, which may be an older one."""
    try:
        from sippet_gevent import Collector
    except ImportError:
        gc.set_threshold(*gc.get_threshold()[:2], 1000)
    else:
        Collector().start()
