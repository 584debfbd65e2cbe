"""Format a plan and the day's traffic as lines, for the log and for `swarm-probe status`."""

from __future__ import annotations

from collections.abc import Mapping

from swarm_probe.owner_limits.traffic_budget import TrafficBudget
from swarm_protocol.messages.probe_messages import Plan
from swarm_protocol.text import safe


def plan_line(plan: Plan) -> str:
    """Return the plan in one line."""
    measured = sum(peer.measure for peer in plan.peers)
    layers = f", layers of {safe(plan.compute.model)}" if plan.compute is not None else ""
    return f"measure {measured} of {len(plan.peers)} members every {plan.stamp_interval_ms:g} ms{layers}"


def gist(plan: Plan) -> tuple[bool, str]:
    """Return the parts of a plan whose change is logged: numbers change whenever a member comes or goes."""
    return any(peer.measure for peer in plan.peers), plan.compute.model if plan.compute is not None else ""


def limit_line(traffic_budget: TrafficBudget, now_ns: int) -> str:
    limit, used = traffic_budget.limit_bytes, traffic_budget.used_bytes(now_ns)
    of = f" of {limit / 1e6:.0f} MB" if limit is not None else " MB, no limit set"
    return f"{used / 1e6:.1f}{of} in 24 hours, both directions"


def why_resting(traffic_budget: TrafficBudget, now_ns: int) -> str | None:
    """Return why less is sent than planned, because of the day's traffic; None: all of it is sent."""
    limit, level = traffic_budget.limit_bytes, traffic_budget.level(now_ns)
    if level == "free" or limit is None:
        return None
    what = "tests are paused" if level == "thrifty" else "nothing is sent but to the collector"
    return f"{traffic_budget.used_bytes(now_ns) / 1e6:.1f} of {limit / 1e6:.0f} MB used in 24 h; {what}"


def machine_line(host: str, unread: Mapping[str, str]) -> str:
    """Return the machine's figures in one line. `unread`: what cannot be read on this machine → why."""
    return ", ".join([host, *(f"{what} – ({why})" for what, why in unread.items() if what != "battery")])
