"""
Grafana 13's provisioning files, checked more strictly than Grafana does: the first fault is an error.

Data sources and dashboard providers as described in Grafana's documentation; dashboards as classic JSON (v1).
Where Grafana would start and silently leave something out, this refuses.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml


class ProvisioningError(Exception):
    """A file that Grafana would not take as it was meant; the text names the file and the fault."""


@dataclass(frozen=True)
class DataSource:
    """One data source; `url` without a last slash, `json` is its jsonData, `secrets` its secureJsonData."""

    name: str
    uid: str
    type: str
    url: str
    is_default: bool
    json: Mapping[str, object]
    secrets: Mapping[str, object]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard as it stands in its file."""

    uid: str
    title: str
    folder: str
    model: Mapping[str, object]


@dataclass(frozen=True)
class Provisioned:
    """Everything that the files provide, by uid; `rescan` is the shortest updateIntervalSeconds."""

    sources: Mapping[str, DataSource]
    dashboards: Mapping[str, Dashboard]
    rescan: float


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SOURCE_KEYS = _words("""
    name uid type access orgId url user database basicAuth basicAuthUser withCredentials isDefault
    editable version jsonData secureJsonData
""")
SOURCE_FILE_KEYS = _words("""
    apiVersion prune deleteDatasources datasources
""")
SOURCE_TYPES = _words("""
    influxdb prometheus alertmanager loki
""")
INFLUX_KEYS = _words("""
    version organization defaultBucket timeInterval httpMode dbName maxSeries tlsSkipVerify
    httpHeaderName1 insecureGrpc tlsAuth tlsAuthWithCACert serverName timeout keepCookies product
""")
PROVIDER_KEYS = _words("""
    name orgId folder folderUid type disableDeletion updateIntervalSeconds allowUiUpdates editable
    options
""")
DASHBOARD_KEYS = _words("""
    id uid title description tags timezone editable graphTooltip time timepicker templating annotations
    refresh schemaVersion version panels links fiscalYearStartMonth liveNow weekStart style gnetId
    preload revision iteration
""")
BUILT_IN_SOURCES = frozenset(("-- Grafana --", "-- Mixed --", "-- Dashboard --", "grafana", "__expr__"))
UID = re.compile(r"[A-Za-z0-9_-]{1,40}")

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|__file\{(?P<file>[^}]*)\}|__env\{(?P<env>\w+)\}"
    r"|\{(?P<braced>\w+)\}|(?P<plain>\w+))"
)


def expand(value: object, environ: Mapping[str, str]) -> object:
    """
    Return a provisioning value with `$VAR`, `${VAR}`, `$__env{VAR}`, `$__file{path}` and `$$` filled in.

    ProvisioningError for a variable that is not set or a file that cannot be read: Grafana itself would put
    in nothing, and the data source would fail later.
    """
    if isinstance(value, dict):
        return {key: expand(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, environ) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _filled(match, environ), value)
    return value


def _filled(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match["dollar"]:
        return "$"
    if match["file"] is not None:
        try:
            return Path(match["file"]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ProvisioningError(f"{match[0]}: {error}") from error
    name = match["env"] or match["braced"] or match["plain"]
    if name not in environ:
        raise ProvisioningError(f"{match[0]}: the variable is not set; a literal $ is $$")
    return environ[name]


def load(root: Path, environ: Mapping[str, str]) -> Provisioned:
    """Read everything below the provisioning folder; ProvisioningError names the first file that is wrong."""
    sources: dict[str, DataSource] = {}
    for path, content in _yaml_files(root / "datasources", environ, SOURCE_FILE_KEYS):
        for item in _list(path, content, "datasources"):
            _add_source(path, _source(path, item), sources)
    if sum(source.is_default for source in sources.values()) > 1:
        raise ProvisioningError(f"{root / 'datasources'}: more than one data source is the default")
    dashboards: dict[str, Dashboard] = {}
    rescan = 10.0
    for path, content in _yaml_files(root / "dashboards", environ, frozenset(("apiVersion", "providers"))):
        for item in _list(path, content, "providers"):
            rescan = min(rescan, _add_dashboards(path, item, sources, dashboards))
    return Provisioned(sources, dashboards, rescan)


def _yaml_files(
    folder: Path, environ: Mapping[str, str], keys: Collection[str]
) -> Iterator[tuple[Path, dict[str, object]]]:
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            content = expand(yaml.safe_load(path.read_text(encoding="utf-8")), environ)
        except (OSError, ValueError, yaml.YAMLError, ProvisioningError) as error:
            raise ProvisioningError(f"{path}: {error}") from error
        if not isinstance(content, dict) or content.get("apiVersion") != 1:
            raise ProvisioningError(f"{path}: a mapping with apiVersion: 1 is wanted")
        _known(path, content, keys)
        yield path, content


def _known(where: object, content: Mapping[str, object], keys: Collection[str]) -> None:
    if unknown := sorted(set(map(str, content)) - set(keys)):
        raise ProvisioningError(f"{where}: unknown keys {', '.join(unknown)}")


def _list(path: Path, content: Mapping[str, object], key: str) -> list[dict[str, object]]:
    items = content.get(key) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ProvisioningError(f"{path}: {key} must be a list of mappings")
    return items


def _text(where: object, content: Mapping[str, object], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value:
        raise ProvisioningError(f"{where}: {key} must be a text that is not empty")
    return value


def _source(path: Path, item: Mapping[str, object]) -> DataSource:
    _known(path, item, SOURCE_KEYS)
    source = DataSource(
        _text(path, item, "name"),
        _text(path, item, "uid"),
        _text(path, item, "type"),
        _text(path, item, "url").rstrip("/"),
        item.get("isDefault") is True,
        _mapping(path, item, "jsonData"),
        _mapping(path, item, "secureJsonData"),
    )
    where = f"{path}: data source {source.name}"
    if not UID.fullmatch(source.uid):
        raise ProvisioningError(f"{where}: uid {source.uid} must be 1 to 40 letters, digits, - or _")
    if source.type not in SOURCE_TYPES:
        raise ProvisioningError(
            f"{where}: type {source.type} is not one of {', '.join(sorted(SOURCE_TYPES))}"
        )
    if item.get("access", "proxy") != "proxy":
        raise ProvisioningError(f"{where}: access must be proxy")
    if source.type == "influxdb":
        _check_influxdb(where, source)
    return source


def _mapping(path: Path, item: Mapping[str, object], key: str) -> dict[str, object]:
    value = item.get(key) or {}
    if not isinstance(value, dict):
        raise ProvisioningError(f"{path}: {key} must be a mapping")
    return value


def _check_influxdb(where: str, source: DataSource) -> None:
    _known(f"{where} jsonData", source.json, INFLUX_KEYS)
    version = source.json.get("version", "InfluxQL")
    if version not in ("Flux", "InfluxQL", "SQL"):
        raise ProvisioningError(f"{where}: version {version} is not Flux, InfluxQL or SQL")
    if version == "Flux":
        for key in ("organization", "defaultBucket"):
            _text(where, source.json, key)
        _text(where, source.secrets, "token")


def _add_source(path: Path, source: DataSource, sources: dict[str, DataSource]) -> None:
    if source.uid in sources or source.name in {other.name for other in sources.values()}:
        raise ProvisioningError(f"{path}: data source {source.name}: its name or uid occurs twice")
    sources[source.uid] = source


def _add_dashboards(
    path: Path, item: dict[str, object], sources: Mapping[str, DataSource], dashboards: dict[str, Dashboard]
) -> float:
    """Add what one provider finds; return its updateIntervalSeconds."""
    _known(path, item, PROVIDER_KEYS)
    name = _text(path, item, "name")
    options = _mapping(path, item, "options")
    _known(f"{path}: options", options, ("path", "foldersFromFilesStructure"))
    if item.get("type", "file") != "file":
        raise ProvisioningError(f"{path}: provider {name}: type must be file")
    by_folder = options.get("foldersFromFilesStructure") is True
    if by_folder and item.get("folder"):
        raise ProvisioningError(f"{path}: provider {name}: folder and foldersFromFilesStructure at once")
    folder = Path(_text(path, options, "path"))
    if not folder.is_dir():
        raise ProvisioningError(f"{path}: provider {name}: there is no folder {folder}")
    for file in sorted(folder.rglob("*.json")):
        inside = file.parent.name if by_folder and file.parent != folder else item.get("folder")
        board = _dashboard(file, str(inside or "General"), sources)
        place = (board.folder, board.title)
        alike = [other for other in dashboards.values() if (other.folder, other.title) == place]
        if board.uid in dashboards or alike:
            raise ProvisioningError(f"{file}: its uid or title occurs twice; Grafana would save neither")
        dashboards[board.uid] = board
    seconds = item.get("updateIntervalSeconds", 10)
    return float(seconds) if isinstance(seconds, int) and seconds > 0 else 10.0


def _dashboard(file: Path, folder: str, sources: Mapping[str, DataSource]) -> Dashboard:
    try:
        model = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProvisioningError(f"{file}: {error}") from error
    if not isinstance(model, dict):
        raise ProvisioningError(f"{file}: a JSON object is wanted")
    if "elements" in model or "spec" in model:
        raise ProvisioningError(f"{file}: this is a v2 dashboard; the file provider takes classic JSON only")
    _known(file, model, DASHBOARD_KEYS)
    uid = _text(file, model, "uid")
    if not UID.fullmatch(uid):
        raise ProvisioningError(f"{file}: uid {uid} must be 1 to 40 letters, digits, - or _")
    if model.get("id") is not None:
        raise ProvisioningError(f"{file}: id must be null")
    if not isinstance(model.get("schemaVersion"), int):
        raise ProvisioningError(f"{file}: schemaVersion must be a number")
    _check_panels(file, model, sources)
    return Dashboard(uid, _text(file, model, "title"), folder, model)


def _panels(file: Path, model: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Yield all panels, those inside rows too."""
    panels = model.get("panels")
    if not isinstance(panels, list) or not all(isinstance(panel, dict) for panel in panels):
        raise ProvisioningError(f"{file}: panels must be a list of objects")
    for panel in panels:
        yield panel
        if panel.get("panels"):
            yield from _panels(file, panel)


def _check_panels(file: Path, model: Mapping[str, object], sources: Mapping[str, DataSource]) -> None:
    variables = _source_variables(model)
    panels = list(_panels(file, model))
    if not panels:
        raise ProvisioningError(f"{file}: there are no panels")
    seen: set[object] = set()
    for panel in panels:
        where = f"{file}: panel {panel.get('title') or panel.get('id')}"
        if not isinstance(panel.get("id"), int) or panel["id"] in seen:
            raise ProvisioningError(f"{where}: id must be a number of its own")
        seen.add(panel["id"])
        _text(where, panel, "type")
        grid = panel.get("gridPos")
        if not isinstance(grid, dict) or not all(isinstance(grid.get(key), int) for key in "hwxy"):
            raise ProvisioningError(f"{where}: gridPos needs h, w, x and y")
        _check_source(where, panel.get("datasource"), sources, variables)
        _check_targets(where, panel, sources, variables)
    for where, reference in _other_references(model):
        _check_source(f"{file}: {where}", reference, sources, variables)


def _source_variables(model: Mapping[str, object]) -> set[str]:
    """Return the names of dashboard variables that stand for a data source."""
    return {str(item.get("name")) for item in _items(model, "templating") if item.get("type") == "datasource"}


def _items(model: Mapping[str, object], key: str) -> list[dict[str, object]]:
    holder = model.get(key)
    items = holder.get("list") if isinstance(holder, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _other_references(model: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key in ("templating", "annotations"):
        for item in _items(model, key):
            yield f"{key} {item.get('name')}", item.get("datasource")


def _check_targets(
    where: str, panel: Mapping[str, object], sources: Mapping[str, DataSource], variables: Collection[str]
) -> None:
    targets = panel.get("targets") or []
    if not isinstance(targets, list) or not all(isinstance(target, dict) for target in targets):
        raise ProvisioningError(f"{where}: targets must be a list of objects")
    letters = [target.get("refId") for target in targets]
    if not all(isinstance(letter, str) for letter in letters) or len(set(letters)) != len(letters):
        raise ProvisioningError(f"{where}: each target needs a refId of its own")
    for target in targets:
        reference = target.get("datasource") or panel.get("datasource")
        source = _check_source(where, reference, sources, variables)
        if source and source.json.get("version") == "Flux":
            _text(f"{where}: target {target['refId']}", target, "query")


def _check_source(
    where: str, reference: object, sources: Mapping[str, DataSource], variables: Collection[str]
) -> DataSource | None:
    """Check one reference to a data source; return it if it is one of ours."""
    kind = None
    if isinstance(reference, dict):
        kind, reference = reference.get("type"), reference.get("uid")
    if reference is None:
        return next((source for source in sources.values() if source.is_default), None)
    wanted = str(reference)
    if wanted in BUILT_IN_SOURCES or re.sub(r"^\$\{?(\w+)\}?$", r"\1", wanted) in variables:
        return None
    if wanted not in sources:
        raise ProvisioningError(f"{where}: there is no data source with uid {wanted}")
    if kind not in (None, sources[wanted].type):
        raise ProvisioningError(
            f"{where}: data source {wanted} is of type {sources[wanted].type}, not {kind}"
        )
    return sources[wanted]
