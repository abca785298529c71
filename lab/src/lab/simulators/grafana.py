"""
A STAND-IN for Grafana 13, which the lab cannot have: reads its provisioning, answers part of its API.

It refuses to start where a provisioning file is wrong (see grafana_files.py), says which, and draws nothing.

Environment, as Grafana's; other GF_ variables are ignored, but each `…__FILE` must be readable:
  GF_SECURITY_ADMIN_USER       admin
  GF_SECURITY_ADMIN_PASSWORD   or GF_SECURITY_ADMIN_PASSWORD__FILE; one must be there, and not the default
  GF_SERVER_HTTP_PORT          3000
  GF_PATHS_PROVISIONING        /etc/grafana/provisioning

Open: GET /api/health. With basic auth of the admin (else 401):
  GET  /api/datasources, /api/search, /api/dashboards/uid/<uid>
  POST /api/admin/provisioning/datasources/reload, /api/admin/provisioning/dashboards/reload
  POST /api/ds/query   {"queries": [{"refId", "datasource": {"uid"}, "query", "intervalMs",
                        "maxDataPoints"}], "from", "to"}: Flux only
                       unlike Grafana it answers {"results": {"A": {"status": 200, "rows": [{…}]}}}

Dashboard files are read again as often as their provider says; a file that has become wrong leaves the last
good state in force and is reported in the log.
"""

import base64
import hmac
import json
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab.simulators import flux
from lab.simulators.grafana_files import DataSource, Provisioned, ProvisioningError, load
from lab.simulators.program import ConfigError, start_log, stop_on_signal
from lab.simulators.web import Answer, Request, serve

LABEL = "This is the lab's STAND-IN for Grafana, not the real program."
VERSION = "13.2.3-standin"
QUERY_TIMEOUT = 30
ANSWER_LIMIT = 20_000_000  # bytes

log = logging.getLogger("grafana")


@dataclass(frozen=True)
class Settings:
    """The environment, checked."""

    user: str
    password: str
    port: int
    provisioning: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables documented above; ConfigError says which is missing or wrong."""
        values = {key: value for key, value in environ.items() if key.startswith("GF_")}
        for key in [key for key in values if key.endswith("__FILE")]:
            plain = key.removesuffix("__FILE")
            if plain in values:
                raise ConfigError(f"both {plain} and {key} are set")
            try:
                values[plain] = Path(values[key]).read_text(encoding="utf-8").rstrip("\n")
            except OSError as error:
                raise ConfigError(f"{key}: {error}") from error
        password = values.get("GF_SECURITY_ADMIN_PASSWORD", "")
        if password in ("", "admin"):
            raise ConfigError("GF_SECURITY_ADMIN_PASSWORD is not set, or still the default")
        port = values.get("GF_SERVER_HTTP_PORT", "3000")
        if not port.isdigit():
            raise ConfigError(f"GF_SERVER_HTTP_PORT is {port}")
        folder = Path(values.get("GF_PATHS_PROVISIONING", "/etc/grafana/provisioning"))
        return cls(values.get("GF_SECURITY_ADMIN_USER", "admin"), password, int(port), folder)

    def admits(self, header: str) -> bool:
        """Tell whether an Authorization header is the admin's."""
        wanted = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return hmac.compare_digest(header.encode(), f"Basic {wanted}".encode())


def influxdb_query(source: DataSource, query: str) -> list[dict[str, object]]:
    """Send a Flux query to the data source's InfluxDB; OSError, ValueError or FluxError if that fails."""
    url = f"{source.url}/api/v2/query?" + urllib.parse.urlencode({"org": source.json["organization"]})
    dialect = {"header": True, "delimiter": ",", "annotations": ["datatype", "group", "default"]}
    request = urllib.request.Request(  # noqa: S310  the address that the provisioning file gives
        url,
        json.dumps({"query": query, "type": "flux", "dialect": dialect}).encode(),
        {
            "Authorization": f"Token {source.secrets['token']}",
            "Content-Type": "application/json",
            "Accept": "application/csv",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=QUERY_TIMEOUT) as answer:  # noqa: S310  see above
            body = answer.read(ANSWER_LIMIT + 1)
    except urllib.error.HTTPError as error:
        reason = error.read(2000).decode(errors="replace")
        raise flux.FluxError(f"InfluxDB answered {error.code}: {reason}") from error
    if len(body) > ANSWER_LIMIT:
        raise flux.FluxError(f"the answer is larger than {ANSWER_LIMIT} bytes")
    return flux.rows(body.decode())


class Standin:
    """The state that the API shows."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        """Read the files once; ProvisioningError if there is anything wrong with them."""
        self._settings = settings
        self._environ = dict(environ)
        self._lock = threading.Lock()
        self._provisioned = load(settings.provisioning, self._environ)
        self._read_at = time.monotonic()
        self._complaint = ""

    def reload(self) -> None:
        """Read the files again; ProvisioningError, and the old state stays, if anything is wrong."""
        with self._lock:
            self._read_at = time.monotonic()
            self._provisioned = load(self._settings.provisioning, self._environ)

    def current(self) -> Provisioned:
        """Return the state, read anew if its time has come."""
        if time.monotonic() - self._read_at >= self._provisioned.rescan:
            complaint = ""
            try:
                self.reload()
            except ProvisioningError as error:
                complaint = str(error)
            if complaint and complaint != self._complaint:
                log.error("event=provisioning error=%s", complaint)
            self._complaint = complaint
        return self._provisioned

    def answer(self, request: Request) -> Answer:
        """Answer one request of the API."""
        if request.path == "/":
            return Answer(f"<!doctype html><p>{LABEL}</p>".encode(), 200, "text/html")
        if request.path == "/api/health":
            return Answer({"database": "ok", "version": VERSION})
        if not self._settings.admits(request.headers.get("authorization", "")):
            return Answer({"message": "Invalid username or password"}, 401)
        if request.method == "POST":
            return self._post(request)
        return self._get(request)

    def _get(self, request: Request) -> Answer:
        state = self.current()
        if request.path == "/api/datasources":
            return Answer([_source_object(n, source) for n, source in enumerate(state.sources.values(), 1)])
        if request.path == "/api/search":
            return Answer(_search(state, request.query.get("query", [""])[0].lower()))
        board = state.dashboards.get(request.path.removeprefix("/api/dashboards/uid/"))
        if board is None:
            return Answer({"message": "Dashboard not found"}, 404)
        meta = {"provisioned": True, "folderTitle": board.folder, "url": f"/d/{board.uid}", "canSave": False}
        return Answer({"dashboard": board.model, "meta": meta})

    def _post(self, request: Request) -> Answer:
        for kind in ("datasources", "dashboards"):
            if request.path == f"/api/admin/provisioning/{kind}/reload":
                try:
                    self.reload()
                except ProvisioningError as error:
                    log.error("event=provisioning error=%s", error)  # noqa: TRY400  the text says it all
                    return Answer({"message": str(error)}, 500)
                return Answer({"message": f"{kind.capitalize()} config reloaded"})
        if request.path == "/api/ds/query":
            return self._query(request)
        return Answer({"message": "Not found"}, 404)

    def _query(self, request: Request) -> Answer:
        try:
            wish = request.json()
            if not isinstance(wish, dict) or not isinstance(wish.get("queries"), list) or not wish["queries"]:
                return Answer({"message": "queries must be a list"}, 400)
            now = datetime.now(UTC)
            start, stop = (flux.time_of(wish.get(key, usual), now) for key, usual in _RANGE)
            results = {
                str(query.get("refId", "A")): self._result(query, start, stop) for query in wish["queries"]
            }
        except (ValueError, AttributeError) as error:
            return Answer({"message": f"bad request: {error}"}, 400)
        failed = any("error" in result for result in results.values())
        return Answer({"results": results}, 400 if failed else 200)

    def _result(self, query: dict[str, object], start: datetime, stop: datetime) -> dict[str, object]:
        reference = query.get("datasource")
        uid = reference.get("uid") if isinstance(reference, dict) else None
        source = self.current().sources.get(str(uid))
        text = query.get("query") or query.get("rawSql")
        if source is None:
            return {"status": 404, "error": f"there is no data source with uid {uid}"}
        if source.json.get("version") != "Flux" or not isinstance(text, str):
            return {"status": 400, "error": "the stand-in passes on Flux queries only"}
        step = flux.step_of(start, stop, query.get("intervalMs"), query.get("maxDataPoints"))
        bucket, organization = str(source.json["defaultBucket"]), str(source.json["organization"])
        filled = flux.Window(start, stop, step, bucket, organization).fill(text)
        try:
            return {"status": 200, "rows": influxdb_query(source, filled)}
        except (OSError, ValueError, flux.FluxError) as error:
            return {"status": 400, "error": str(error), "query": filled}


_RANGE = (("from", "now-1h"), ("to", "now"))


def _source_object(number: int, source: DataSource) -> dict[str, object]:
    """Return a data source as the API shows it: without its secrets."""
    return {
        "id": number,
        "uid": source.uid,
        "orgId": 1,
        "name": source.name,
        "type": source.type,
        "access": "proxy",
        "url": source.url,
        "isDefault": source.is_default,
        "jsonData": dict(source.json),
        "readOnly": True,
    }


def _search(state: Provisioned, text: str) -> list[dict[str, object]]:
    return [
        {
            "id": number,
            "uid": board.uid,
            "title": board.title,
            "url": f"/d/{board.uid}",
            "type": "dash-db",
            "tags": board.model.get("tags") or [],
            "folderTitle": board.folder,
        }
        for number, board in enumerate(state.dashboards.values(), 1)
        if text in board.title.lower()
    ]


def main() -> int:
    """Run the program; exit code 1 for an environment or a file that cannot be used."""
    start_log()
    log.info(LABEL)
    stop = stop_on_signal()
    try:
        settings = Settings.from_environment(os.environ)
        standin = Standin(settings, os.environ)
    except (ConfigError, ProvisioningError) as error:
        log.error("event=exit error=%s", error)  # noqa: TRY400  the text says it all
        return 1
    serve("0.0.0.0", settings.port, standin.answer)  # noqa: S104  a container of its own
    stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
