"""A bound on the norm of updates at the server: updates with a larger norm are scaled down or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onebasin.core.norms import length, shortened
from onebasin.federation.hooks.hook import Hook
from onebasin.wire.error import WireError

if TYPE_CHECKING:
    from onebasin.federation.server.replies import CheckedReply


class BoundedNorms(Hook):
    """Scales down or refuses updates whose norm is above `method.norm_bound.limit`."""

    def check(self, reply: CheckedReply) -> tuple[CheckedReply, str]:
        bound = self.context.config.method.norm_bound
        assert bound is not None
        if reply.update is None:
            return reply, ""
        norm = length(reply.update)
        if norm <= bound.limit:
            return reply, ""
        problem = f"the update's norm is {norm:.6g}; method.norm_bound.limit is {bound.limit:g}"
        if bound.over == "reject":
            raise WireError(problem)
        return replace(reply, update=shortened(reply.update, bound.limit / norm)), f"clipped: {problem}"
