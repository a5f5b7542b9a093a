"""Gate: a core that asks for a password, made of the digest functions alone, so that it judges the client side."""

from __future__ import annotations

from sippet_gevent.core.auth.claim import Claim
from sippet_gevent.core.auth.digest import ha1
from sippet_gevent.message.fields.authentication import Challenge

HEADERS = {
    401: ("www_authenticate", "authorization"),
    407: ("proxy_authenticate", "proxy_authorization"),
}


class Gate:
    """Lets requests with the right password pass to `core`. A nonce is good for `uses` requests."""

    def __init__(
        self,
        core=lambda request, tx: 200,
        *,
        status=401,
        realm="pbx.example.com",
        user="100",
        password="secret",
        algorithms=("SHA-256", "MD5"),
        qop='"auth"',
        uses=100,
        stale=True,
        methods=None,
        more="",
    ):
        self.core, self.status, self.realm = core, status, realm
        self.user, self.password, self.algorithms = user, password, algorithms
        self.qop, self.uses, self.stale, self.methods, self.more = qop, uses, stale, methods, more
        self.nonces = {}
        self.given = 0
        self.requests = []
        self.claims = []
        self.renew = False

    def __call__(self, request, tx):
        self.requests.append(request)
        if request.method == "ACK" or (self.methods and request.method not in self.methods):
            return self.core(request, tx)
        challenge, header = HEADERS[self.status]
        is_stale = False
        for value in getattr(request, header):
            claim = Claim.of(value)
            if claim.realm != self.realm:
                continue
            self.claims.append(claim)
            key = ha1(self.user, self.realm, self.password, claim.algorithm)
            proved = claim.username == self.user and claim.is_proved_by(
                key, request.method, request.body
            )
            used = self.nonces.get(claim.nonce)
            if proved and used is not None and len(used) < self.uses and claim.number not in used:
                used.add(claim.number)
                return self.core(request, tx)
            is_stale = proved and self.stale
        self.given += 1
        nonce = f"nonce{self.given}of{self.realm}"
        self.nonces[nonce] = set()
        values = [
            Challenge.parse(
                f'Digest realm="{self.realm}", nonce="{nonce}", algorithm={algorithm}'
                + (f", qop={self.qop}" if self.qop else "")
                + (", stale=true" if is_stale else "")
                + self.more
            )
            for algorithm in self.algorithms
        ]
        tx.respond(self.status, **{challenge: values})
        return None

    def restart(self):
        """Forget all nonces, as a server does that has restarted."""
        self.nonces.clear()
