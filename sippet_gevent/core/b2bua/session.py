"""BridgingSession: a call that can be bridged with another one."""

from __future__ import annotations

from ...errors import InvalidValue, TransactionStateError, excerpt
from ..dialog.call import Call
from ..dialog.end import Bridged, End
from ..dialog.invite import InviteSession
from ..dialog.transfer import ReferringSession
from .connection import Connection
from .leg import Leg
from .policy import BridgePolicy, checked_policy
from .relay import MediaRelay
from .third_party import connect_sessions


class BridgingSession(ReferringSession):
    """A call that can be bridged with another one that the program has."""

    def bridge(
        self, other: Call, *, policy: BridgePolicy | None = None, media: MediaRelay | None = None
    ) -> Bridged:
        if not isinstance(other, InviteSession):
            raise TypeError(
                f"other must be an answered Call, got {excerpt(other)}: "
                "write call.bridge(stack.invite(target))"
            )
        if other is self:
            raise InvalidValue("a call cannot be bridged with itself: write call_a.bridge(call_b)")
        for call in (self, other):
            if call.end is not None or not call.is_confirmed:
                raise TransactionStateError(f"only an answered call can be bridged, not {call!r}")
            if isinstance(call.leg, Leg):
                raise TransactionStateError(f"{call!r} is bridged already")
        connection = Connection(self.stack, checked_policy(policy), media)
        one, two = connection.add_leg(), connection.add_leg()
        try:
            one.begins(self)
            two.begins(other)
            connect_sessions(connection, one, two, is_relayed=media is not None)
            connection.connect(one, two)
            connection.until_over()
        except BaseException:
            for leg in connection.legs:
                leg.hang_up(None, End("us", "failed", 500))
            raise
        finally:
            connection.close()
        return Bridged(self.end, other.end)
