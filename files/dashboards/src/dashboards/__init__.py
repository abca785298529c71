"""Grafana dashboards of a site, made on the controller as classic JSON files for provisioning."""

from dashboards.board import environment
from dashboards.site import Site

__all__ = ["Site", "environment"]
