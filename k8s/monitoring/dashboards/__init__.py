"""Grafana's dashboards as typed Python; `make dashboards` writes them as JSON into the chart that installs them."""
