"""The panels of the Environment dashboard, each a builder without id and place."""

from grafana_foundation_sdk.builders import bargauge, common, dashboard, gauge, stat, table, timeseries
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from dashboards import flux
from dashboards.site import HOT_C, WARM_C, Site

# BLE adverts come every few seconds, the cloud asks each 900 s and is late: each path has its own patience.
BLE_AGE_S = (300, 1000)
CLOUD_AGE_S = (1500, 2700)
# A curve is broken where nothing came for longer than this, milliseconds.
GAP_MS = 3_600_000
# Windows of a minute at 6 hours: finer ones cost the site host four times the work at each refresh.
MAX_POINTS = 400

Panel = stat.Panel | timeseries.Panel | gauge.Panel | bargauge.Panel | table.Panel


class FluxQuery(variants.Dataquery, cog.Builder[variants.Dataquery]):
    """A target of the InfluxDB data source, for which the SDK has no type."""

    def __init__(self, site: Site, query: str) -> None:
        """Hold the Flux text `query` for the site's data source."""
        self._site = site
        self._query = query

    def build(self) -> variants.Dataquery:
        """Return itself: the query is its own model."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the target as Grafana stores it."""
        return {"refId": "A", "datasource": source_of(self._site).to_json(), "query": self._query}


def source_of(site: Site) -> models.DataSourceRef:
    """Return the reference to the site's InfluxDB data source."""
    return models.DataSourceRef(type_val="influxdb", uid=site.datasource_uid)


def rooms_now(site: Site) -> Panel:
    """Return a tile per room with its highest fresh temperature."""
    return (
        stat.Panel()
        .title("Temperature now, by room")
        .description("The warmest sensor counts. Values older than 35 minutes are left out.")
        .datasource(source_of(site))
        .with_target(FluxQuery(site, flux.now_by_room(site)))
        .unit(site.grafana_unit)
        .decimals(1)
        .thresholds(_temperature_steps(site))
        .color_mode(common_models.BigValueColorMode.BACKGROUND)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(_last())
        .no_value("no fresh reading")
    )


def temperature(site: Site) -> Panel:
    """Return the temperature curves with the two limits as lines."""
    return (
        _curves(site, "Temperature", "temperature")
        .description("Mean over each step, one curve per sensor and gateway, BLE and cloud side by side.")
        .unit(site.grafana_unit)
        .decimals(1)
        .thresholds(_temperature_steps(site, below="transparent"))
        .thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    )


def humidity(site: Site) -> Panel:
    """Return the humidity curves."""
    return (
        _curves(site, "Humidity", "humidity").unit("humidity").decimals(0).axis_soft_min(0).axis_soft_max(100)
    )


def signal(site: Site) -> Panel:
    """Return the signal strength curves: which gateway hears which sensor how well."""
    return (
        _curves(site, "Signal by gateway", "rssi")
        .description("Below -90 dBm adverts get lost: move the gateway or add one.")
        .unit("dBm")
        .decimals(0)
    )


def battery(site: Site) -> Panel:
    """Return a gauge per device with its last battery level."""
    return (
        gauge.Panel()
        .title("Battery")
        .datasource(source_of(site))
        .with_target(FluxQuery(site, flux.battery(site)))
        .unit("percent")
        .decimals(0)
        .min(0)
        .max(100)
        .thresholds(_steps("red", (20, "orange"), (40, "green")))
        .reduce_options(_last())
    )


def age(site: Site) -> Panel:
    """Return a bar per device and path that grows while nothing comes."""
    warn, dead = CLOUD_AGE_S
    cloud_steps = _steps("green", (warn, "orange"), (dead, "red")).build()
    return (
        bargauge.Panel()
        .title("Age of data")
        .description(
            "Time since the last reading, for every sensor heard in the last 7 days. "
            "A long bar is a dead sensor, gateway or path. "
            "Cloud readings are up to half an hour old even when all is well."
        )
        .datasource(source_of(site))
        .with_target(FluxQuery(site, flux.age(site)))
        .unit("s")
        .decimals(0)
        .min(0)
        .max(dead)
        .thresholds(_steps("green", (BLE_AGE_S[0], "orange"), (BLE_AGE_S[1], "red")))
        .override_by_regexp("/ · cloud$/", [models.DynamicConfigValue("thresholds", cloud_steps)])
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .reduce_options(_last())
    )


def latest(site: Site) -> Panel:
    """Return the table of what each sensor said last through each gateway."""
    titles = {
        "room": "Room",
        "device_name": "Sensor",
        "source_node": "Gateway",
        "temperature": "Temperature",
        "humidity": "Humidity",
        "battery": "Battery",
        "rssi": "Signal",
        "age": "Age",
        "z_device_id": "Id",
    }
    units = {
        "Temperature": site.grafana_unit,
        "Humidity": "humidity",
        "Battery": "percent",
        "Signal": "dBm",
        "Age": "s",
    }
    panel = (
        table.Panel()
        .title("Latest values by room")
        .datasource(source_of(site))
        .with_target(FluxQuery(site, flux.latest_table(site)))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "indexByName": {name: place for place, name in enumerate(titles)},
                    "renameByName": titles,
                    "excludeByName": {},
                },
            )
        )
        .filterable(filterable=True)
        .decimals(0)
    )
    for title, unit in units.items():
        panel.override_by_name(title, [models.DynamicConfigValue("unit", unit)])
    return panel.override_by_name(
        "Temperature",
        [
            models.DynamicConfigValue("decimals", 1),
            models.DynamicConfigValue("thresholds", _temperature_steps(site, below="text").build()),
            models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        ],
    )


def _curves(site: Site, title: str, kind: str) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .show_legend(show_legend=True)
        .display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "min", "max"])
    )
    tooltip = common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)
    return (
        timeseries.Panel()
        .title(title)
        .datasource(source_of(site))
        .with_target(FluxQuery(site, flux.curves(site, kind)))
        .interval("10s")
        .max_data_points(MAX_POINTS)
        .line_width(1)
        .insert_nulls(GAP_MS)
        .legend(legend)
        .tooltip(tooltip.sort(common_models.SortOrder.DESCENDING))
    )


def _temperature_steps(site: Site, below: str = "green") -> dashboard.ThresholdsConfig:
    return _steps(below, (site.in_unit(WARM_C), "orange"), (site.in_unit(HOT_C), "red"))


def _steps(base: str, *steps: tuple[float, str]) -> dashboard.ThresholdsConfig:
    above = [models.Threshold(value=value, color=color) for value, color in steps]
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=None, color=base), *above])
    )


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False)
