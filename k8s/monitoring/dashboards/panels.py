"""How a panel, a row and a dashboard are made: every one has a title, a unit and a sentence that says what to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models

# Of all expressions: an installation, by the variable of that name. ".*" also matches where there is no such label.
NS = 'namespace=~"$namespace"'
RATE = "[$__rate_interval]"
# What nobody asked for: kubelets and scrapes.
PROBES = 'route!~"/(livez|readyz|startupz|metrics|loglevel)"'

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
REQUESTS, SECONDS, BYTES, SHARE, NUMBER, PER_SECOND = "reqps", "s", "bytes", "percentunit", "short", "cps"
BYTES_PER_SECOND, SWITCH = "Bps", "bool_yes_no"


@dataclass(frozen=True)
class Panel:
    """`queries` are pairs of an expression and its legend. `limit` draws everything above it red."""

    title: str
    description: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: Literal["graph", "number"] = "graph"
    limit: float | None = None
    width: int = 8
    exemplars: bool = False
    stacked: bool = False

    def build(self) -> timeseries.Panel | stat.Panel:
        panel = self._number() if self.kind == "number" else self._graph()
        for place, (expression, legend) in enumerate(self.queries):
            query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + place))
            if self.kind == "number":
                query.instant()
            else:
                query.range().exemplar(self.exemplars)
            panel.with_target(query)
        return panel

    def _graph(self) -> timeseries.Panel:
        made = timeseries.Panel().title(self.title).description(self.description).unit(self.unit)
        made.datasource(DATASOURCE).span(self.width).height(8).min(0).fill_opacity(10).line_width(1)
        made.show_points(options.VisibilityMode.NEVER)
        made.legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.TABLE)
            .placement(options.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .show_legend(True)
        )
        made.tooltip(
            common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
        )
        if self.stacked:
            made.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
        if self.limit is not None:
            made.thresholds(_red_from(self.limit))
            made.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.LINE))
        return made

    def _number(self) -> stat.Panel:
        made = stat.Panel().title(self.title).description(self.description).unit(self.unit)
        made.datasource(DATASOURCE).span(self.width).height(4).graph_mode(options.BigValueGraphMode.NONE)
        made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        if self.limit is not None:
            made.thresholds(_red_from(self.limit))
        return made


@dataclass(frozen=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """`name` is that of its file and, with a prefix, its uid: links to it stay true."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]

    def build(self) -> models.Dashboard:
        made = builders.Dashboard(self.title).uid(f"lakegate-{self.name}").description(self.description)
        made.tags(["lakegate"]).readonly().refresh("30s").time("now-1h", "now").timezone("browser")
        made.tooltip(models.DashboardCursorSync.CROSSHAIR)
        made.link(
            builders.DashboardLink("Lakegate")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["lakegate"])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
        made.with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        made.with_variable(
            builders.QueryVariable("namespace")
            .label("Namespace")
            .datasource(DATASOURCE)
            .query("label_values(lakegate_build_info, namespace)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .include_all(True)
            .all_value(".*")
            .current(models.VariableOption(text="All", value="$__all", selected=True))
        )
        for row in self.rows:
            made.with_row(builders.Row(row.title))
            for panel in row.panels:
                made.with_panel(panel.build())
        return made.build()


def quantile(share: float, histogram: str, by: str, labels: str = NS) -> str:
    """PromQL: below this were that share of a histogram's observations, by label."""
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({histogram}_bucket{{{labels}}}{RATE})))"


def rate(counter: str, by: str, labels: str = NS) -> str:
    """PromQL: how fast a counter grows, by label."""
    return f"sum by ({by}) (rate({counter}{{{labels}}}{RATE}))"


def by_route(labels: str, seen: str) -> tuple[Panel, Panel]:
    """A service's requests, and how long they take, which `seen` describes."""
    return (
        Panel(
            "Requests by route",
            "Answered requests a second.",
            REQUESTS,
            [(rate("lakegate_http_requests_total", "method, route", labels), "{{method}} {{route}}")],
            stacked=True,
        ),
        Panel(
            "99% of requests take less than",
            seen,
            SECONDS,
            [(quantile(0.99, "lakegate_http_request_duration_seconds", "route", labels), "{{route}}")],
            exemplars=True,
        ),
    )


def _red_from(limit: float) -> builders.ThresholdsConfig:
    steps = [models.Threshold(value=None, color="green"), models.Threshold(value=limit, color="red")]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
