"""A blue/green rollout, as its driver tells it."""

from __future__ import annotations

from dashboards.panels import NS, NUMBER, PER_SECOND, PROBES, REQUESTS, SHARE, SWITCH, Dashboard, Panel, Row, rate

_COLOUR, _COUNTER = "lakegate_io_colour", "lakegate_http_requests_total"
_ANSWERED = rate(_COUNTER, _COLOUR, f'{NS}, job="gateway", {PROBES}')
_FAILED = rate(_COUNTER, _COLOUR, f'{NS}, job="gateway", {PROBES}, status=~"5.."')

ROLLOUT = Dashboard(
    "rollout",
    "Lakegate rollout",
    "What the driver of a blue/green rollout does. It is a Job: there is data while one is under way.",
    [
        Row(
            "Where it is",
            [
                Panel(
                    "Phase",
                    "1 for the phase that the rollout is in; see docs/rollout.md.",
                    NUMBER,
                    [(f"max by (phase, to_colour) (lakegate_rollout_phase{{{NS}}})", "{{phase}} to {{to_colour}}")],
                ),
                Panel(
                    "In this phase for",
                    "Since its last change of phase.",
                    "s",
                    [(f"time() - max(lakegate_rollout_phase_since_seconds{{{NS}}})", "seconds")],
                ),
                Panel(
                    "Needs a person",
                    "The driver can't go on by itself.",
                    SWITCH,
                    [(f"max(lakegate_rollout_needs_person{{{NS}}})", "needs a person")],
                    limit=1,
                ),
                Panel(
                    "Steps done",
                    "By step.",
                    NUMBER,
                    [(f"sum by (step) (lakegate_rollout_steps_total{{{NS}}})", "{{step}}")],
                ),
                Panel(
                    "Drivers",
                    "How many took this rollout on: more than one, if it was killed and went on.",
                    NUMBER,
                    [(f"max(lakegate_rollout_epoch{{{NS}}})", "epoch")],
                ),
                Panel(
                    "Ended",
                    "By outcome.",
                    NUMBER,
                    [(f"sum by (outcome) (lakegate_rollout_finished_total{{{NS}}})", "{{outcome}}")],
                ),
            ],
        ),
        Row(
            "What it sees",
            [
                Panel(
                    "Requests of checks",
                    "Load on the preview, our own reads after it (traffic) and clients' requests, by result.",
                    REQUESTS,
                    [(rate("lakegate_rollout_requests_total", "check, result"), "{{check}} {{result}}")],
                ),
                Panel(
                    "API calls that failed",
                    "The API server's trouble, or the driver's Role.",
                    PER_SECOND,
                    [(f"sum(rate(lakegate_rollout_api_failures_total{{{NS}}}[$__rate_interval]))", "failures")],
                ),
                Panel(
                    "Writes refused",
                    "The object had changed meanwhile: read again and repeated.",
                    PER_SECOND,
                    [(f"sum(rate(lakegate_rollout_conflicts_total{{{NS}}}[$__rate_interval]))", "conflicts")],
                ),
                Panel(
                    "5xx by colour",
                    "Share of the gateway's requests, probes left out, by colour: what decides in the watch window.",
                    SHARE,
                    [(f"({_FAILED} or 0 * {_ANSWERED}) / {_ANSWERED}", "{{lakegate_io_colour}}")],
                ),
                Panel(
                    "Requests by colour",
                    "At the gateways: the switch is to be seen here.",
                    REQUESTS,
                    [(_ANSWERED, "{{lakegate_io_colour}}")],
                    stacked=True,
                ),
            ],
        ),
    ],
)
