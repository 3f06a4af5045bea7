"""What to watch on a driver. It is a Job: its last state also stands in the annotations and the Events."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

REGISTRY = CollectorRegistry()
PHASE = Gauge(
    "lakegate_rollout_phase", "1 for the phase that the rollout is in", ["rollout", "to_colour", "phase"],
    registry=REGISTRY,
)  # fmt: skip
PHASE_SINCE = Gauge("lakegate_rollout_phase_since_seconds", "Unix time of the last change of phase", registry=REGISTRY)
NEEDS_PERSON = Gauge("lakegate_rollout_needs_person", "1 while the driver can't go on by itself", registry=REGISTRY)
EPOCH = Gauge("lakegate_rollout_epoch", "How many drivers took this rollout on", registry=REGISTRY)
STEPS = Counter("lakegate_rollout_steps_total", "Steps done", ["step"], registry=REGISTRY)
CONFLICTS = Counter(
    "lakegate_rollout_conflicts_total", "Writes refused, since the object had changed", registry=REGISTRY
)
API_FAILURES = Counter("lakegate_rollout_api_failures_total", "Calls to the API server that failed", registry=REGISTRY)
REQUESTS = Counter(
    "lakegate_rollout_requests_total", "Requests that checks were made of", ["check", "result"], registry=REGISTRY
)
FINISHED = Counter("lakegate_rollout_finished_total", "Rollouts that ended", ["outcome"], registry=REGISTRY)
