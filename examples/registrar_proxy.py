"""A registrar and proxy: phones register, and call each other by name; all of a user's phones ring
at once.

    python examples/registrar_proxy.py            or  sippet serve examples/registrar_proxy.py:stack

It listens on udp:127.0.0.1:5060, for phones on this machine. For others, add
`--listen udp:192.0.2.10:5060` with an address of yours to the second command. That address is the
registrar, the domain and the proxy in your phones' settings.
`sippet serve` without a core runs much the same.
"""

from sippet_gevent import Location, Registrar, Stack, forward

stack = Stack()
location = Location()

stack.on("REGISTER")(Registrar(location))


@stack.on()
def route(request, tx):
    """Serve all other methods."""
    # within a call: along the way we put into its Record-Route
    if tx.take_route() and not stack.is_local(request.uri):
        return forward(request, tx)
    if request.to.tag is not None or request.method == "ACK":  # within another
        return 481
    if (
        request.method == "OPTIONS"
        and stack.is_responsible_for(request.uri)
        and not request.uri.user
    ):
        return 200
    # a user, or one phone of a user
    targets = location.lookup(request.uri) or location.lookup_contact(request.uri)
    if not targets:
        return 404
    return forward(request, tx, *targets, record_route=request.method == "INVITE")


if __name__ == "__main__":
    stack.run()
