"""A registrar and proxy: phones register and call each other by name. All phones of a user ring at
the same time.

    python examples/registrar_proxy.py            or  sippet serve examples/registrar_proxy.py:stack

It listens on udp:127.0.0.1:5060, for phones on this machine. For phones on other machines, add
`--listen udp:192.0.2.10:5060` to the second command, with an address of your own. In the phones'
settings, that address is the registrar, the domain and the proxy. `sippet serve` without a core
runs nearly the same server.
"""

from sippet_gevent import Location, Registrar, Stack, forward

stack = Stack()
location = Location()

stack.on("REGISTER")(Registrar(location))


@stack.on()
def route(request, tx):
    """Serve all other methods."""
    # within a call: along the route of our Record-Route
    if tx.take_route() and not stack.is_local(request.uri):
        return forward(request, tx)
    if request.to.tag is not None or request.method == "ACK":  # within a call that we did not route
        return 481
    if (
        request.method == "OPTIONS"
        and stack.is_responsible_for(request.uri)
        and not request.uri.user
    ):
        return 200
    # all phones of a user, or the phone with this Contact
    targets = location.lookup(request.uri) or location.lookup_contact(request.uri)
    if not targets:
        return 404
    return forward(request, tx, *targets, record_route=request.method == "INVITE")


if __name__ == "__main__":
    stack.run()
