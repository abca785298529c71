#!/usr/bin/python
"""Make an InfluxDB 2 bucket and scoped tokens; keep each token in a file on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: influxdb_tokens
short_description: Bucket, retention and scoped tokens of an InfluxDB 2
description:
  - InfluxDB chooses tokens itself and shows each only once, so the answer is kept in a file (0600, root).
    A lost file, or one whose token no longer works, means a new token; the old one of that name is deleted.
options:
  url: {description: Where InfluxDB answers., type: str, required: true}
  operator_token: {description: Token of the set-up., type: str, required: true}
  organization: {description: Organization., type: str, required: true}
  bucket: {description: Bucket., type: str, required: true}
  retention_days: {description: Older points are deleted., type: int, required: true}
  directory: {description: Folder of the token files., type: path, required: true}
  tokens: {description: Token name to C(read) or C(write)., type: dict, required: true}
author: dpx-showsite-ops
"""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SECONDS_A_DAY = 86400


class InfluxError(Exception):
    """InfluxDB refused, or did not answer."""


class Influx:
    """The few calls of InfluxDB's API that are needed (v2 HTTP API, version 2.9)."""

    def __init__(self, url: str, token: str) -> None:
        """Remember where to ask and as whom."""
        self.url, self.token = url, token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call; the parsed answer, empty where there is none."""
        request = urllib.request.Request(  # noqa: S310  the URL is http by construction
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  as above
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise InfluxError(f"{method} {path}: {error.code} {said}") from error
        except OSError as error:
            raise InfluxError(f"{self.url} does not answer: {error}") from error
        return json.loads(text) if text else {}

    def works(self, token: str) -> bool:
        """Whether a token is known to this InfluxDB."""
        try:
            Influx(self.url, token).call("GET", "/api/v2/buckets?limit=1")
        except InfluxError as error:
            if " 401 " in str(error):
                return False
            raise
        return True


def set_retention(influx: Influx, bucket: dict[str, Any], days: int, *, dry: bool) -> bool:
    """Give the bucket its retention; whether that changed anything."""
    rules = [{"type": "expire", "everySeconds": days * SECONDS_A_DAY}]
    if [rule["everySeconds"] for rule in bucket["retentionRules"]] == [rules[0]["everySeconds"]]:
        return False
    if not dry:
        influx.call("PATCH", f"/api/v2/buckets/{bucket['id']}", {"retentionRules": rules})
    return True


def new_token(influx: Influx, bucket: dict[str, Any], name: str, action: str) -> str:
    """Make a token for one bucket and one action, in place of any of that name."""
    known = influx.call("GET", f"/api/v2/authorizations?orgID={bucket['orgID']}")["authorizations"]
    for old in known:
        if old["description"] == name:
            influx.call("DELETE", f"/api/v2/authorizations/{old['id']}")
    resource = {"type": "buckets", "id": bucket["id"], "orgID": bucket["orgID"]}
    permissions = [{"action": action, "resource": resource}]
    body = {"orgID": bucket["orgID"], "description": name, "permissions": permissions}
    token: str = influx.call("POST", "/api/v2/authorizations", body)["token"]
    return token


def store(path: Path, token: str) -> None:
    """Keep a token, readable by root alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(token)
        os.fsync(handle.fileno())
    part.replace(path)


def ensure(influx: Influx, params: dict[str, Any], *, dry: bool) -> tuple[list[str], dict[str, str]]:
    """Bring bucket and tokens about: what changed, and the tokens by name."""
    query = f"/api/v2/buckets?org={params['organization']}&name={params['bucket']}"
    bucket = influx.call("GET", query)["buckets"][0]
    changed = ["retention"] if set_retention(influx, bucket, params["retention_days"], dry=dry) else []
    tokens = {}
    for name, action in params["tokens"].items():
        path = Path(params["directory"]) / name
        kept = path.read_text() if path.exists() else ""
        if not kept or not influx.works(kept):
            changed.append(f"token {name}")
            if not dry:
                kept = new_token(influx, bucket, name, action)
                store(path, kept)
        tokens[name] = kept
    return changed, tokens


def main() -> None:
    """Entry point for Ansible."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "operator_token": {"type": "str", "required": True, "no_log": True},
            "organization": {"type": "str", "required": True},
            "bucket": {"type": "str", "required": True},
            "retention_days": {"type": "int", "required": True},
            "directory": {"type": "path", "required": True},
            "tokens": {"type": "dict", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    influx = Influx(module.params["url"], module.params["operator_token"])
    try:
        changed, tokens = ensure(influx, module.params, dry=module.check_mode)
    except InfluxError as error:
        module.fail_json(
            msg=f"InfluxDB: {error}. If the operator token is refused (401), this database was set up with "
            "another one than the vault's: restore that vault.yml, or remove the volume influxdb-data "
            "(this deletes all readings) and run again."
        )
    module.exit_json(
        changed=bool(changed),
        tokens=tokens,
        diff={"prepared": "".join(f"{what}: renewed\n" for what in changed)},
    )


if __name__ == "__main__":
    main()
