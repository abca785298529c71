#!/usr/bin/python
"""Place the files of one service on a host: all or none, checked before they land."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_files
short_description: Place the files of one service, checked before they land
description:
  - Called by the action plugin of the same name, which renders the files on the controller.
  - Makes the service's image present (from an archive in O(bundle), else by pulling).
  - Files in C(units/) are systemd units and land in C(/etc/systemd/system).
  - Stages all files beside the old ones, lets C(docker compose config) and the service's own program
    check them there, and only then moves them into place. A file that is no longer rendered is removed.
  - Changed files which the service can reload leave a mark, C(.reload-pending), that stays until the
    reload was done, so that an interrupted run is finished by the next one.
options:
  dest: {description: Folder of the service on the host., type: path, required: true}
  payload:
    description: JSON list of files (path, content, mode, owner, reload, secret).
    type: str
    required: true
  image: {description: Image that must be present; empty for none., type: str, default: ""}
  bundle: {description: "Folder with image archives, as an offline site has them.", type: path, default: ""}
  check:
    description: Command that checks the staged files in the service's image; C({staged}) is their folder.
    type: dict
    options:
      volumes: {description: Mounts for the check., type: list, elements: str, default: []}
      command: {description: What to run., type: list, elements: str, required: true}
      user: {description: Numeric user of the check., type: str, default: "0"}
author: dpx-showsite-ops
"""

import difflib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

MANIFEST = ".files.json"
UNITS = Path("/etc/systemd/system")
RELOAD_MARK = ".reload-pending"


@dataclass(frozen=True)
class File:
    """One file of a service; `path` is relative to the service's folder."""

    path: str
    content: str
    mode: int
    owner: int
    reload: bool
    secret: bool

    def differs(self, target: Path) -> bool:
        """Whether the file at `target` is another one, or has another mode or owner."""
        try:
            status = target.lstat()
        except FileNotFoundError:
            return True
        if (status.st_mode & 0o7777, status.st_uid, status.st_gid) != (self.mode, self.owner, self.owner):
            return True
        return target.read_bytes() != self.content.encode()

    def place(self, target: Path) -> None:
        """Write the file to `target`, atomically and never readable by more than its mode says."""
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(self.content.encode())
            os.fchown(handle.fileno(), self.owner, self.owner)
            os.fchmod(handle.fileno(), self.mode)
            os.fsync(handle.fileno())
        Path(name).replace(target)

    def diff(self, target: Path) -> dict[str, str]:
        """What would change, for --diff; of a secret file only its name."""
        if self.secret:
            return {"prepared": f"{target}: differs (a secret, not shown)\n"}
        old = target.read_text(errors="replace") if target.exists() else ""
        lines = difflib.unified_diff(
            old.splitlines(keepends=True),
            self.content.splitlines(keepends=True),
            f"{target} (now)",
            f"{target} (wanted)",
        )
        return {"prepared": "".join(lines) or f"{target}: mode or owner differs\n"}


def stale(root: Path, wanted: list[File]) -> list[str]:
    """Files that an earlier run placed and that are no longer wanted."""
    try:
        known = json.loads((root / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return sorted(set(known) - {file.path for file in wanted})


class Host:
    """What is done on the site host."""

    def __init__(self, module: AnsibleModule) -> None:
        """Remember what Ansible asked for."""
        self.module = module
        self.root = Path(module.params["dest"])
        self.image: str = module.params["image"]
        self.has_docker = shutil.which("docker") is not None

    def target(self, path: str) -> Path:
        """Where a file of the service lives on this host."""
        return UNITS / Path(path).name if path.startswith("units/") else self.root / path

    @property
    def deployed(self) -> bool:
        """Whether an earlier run placed the service."""
        return (self.root / MANIFEST).exists()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command and keep its output."""
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def image_present(self) -> bool:
        """Whether the engine holds the image."""
        return self.has_docker and self.run("docker", "image", "inspect", self.image).returncode == 0

    def fetch_image(self) -> None:
        """Load the image from an archive of the bundle, else pull it."""
        bundle = Path(self.module.params["bundle"])
        for archive in sorted(bundle.glob("*.tar*")) if bundle.is_dir() else []:
            loaded = self.run("docker", "load", "--input", str(archive))
            if loaded.returncode:
                self.fail(f"{archive} cannot be loaded: {loaded.stderr.strip()}. Copy the archive again.")
            if self.image_present():
                return
        pulled = self.run("docker", "pull", "--quiet", self.image)
        if pulled.returncode:
            self.fail(
                f"Image {self.image} is in no archive under {bundle} and cannot be pulled: "
                f"{pulled.stderr.strip()}. Connect the host to the internet, or save the image on another "
                f"machine (docker save {self.image} -o image.tar) and put image.tar into {bundle}."
            )

    def check(self, staged: Path) -> None:
        """Let Compose and the service's own program judge the staged files; fail before anything lands."""
        fragment = staged / "compose.yml"
        if fragment.exists():
            self.check_fragment(fragment)
        units = sorted(staged.glob("units/*"))
        if units:
            self.check_units(units)
        check = self.module.params["check"]
        if not check:
            return
        mounts = [f"--volume={mount.format(staged=staged)}" for mount in check["volumes"]]
        docker = ["docker", "run", "--rm", "--pull=never", "--network=none", f"--user={check['user']}"]
        verdict = self.run(
            *docker, *mounts, "--entrypoint", check["command"][0], self.image, *check["command"][1:]
        )
        if verdict.returncode:
            said = (verdict.stdout + verdict.stderr).strip()
            self.fail(f"{self.root.name} refuses its new files, nothing was changed. It says: {said[-2000:]}")

    def check_fragment(self, fragment: Path) -> None:
        """Let Compose judge a staged fragment."""
        verdict = self.run("docker", "compose", "--file", str(fragment), "config", "--quiet")
        if verdict.returncode:
            self.fail(
                f"docker compose refuses the new compose.yml of {self.root.name}: {verdict.stderr.strip()}"
            )

    def check_units(self, units: list[Path]) -> None:
        """Let systemd judge staged units."""
        verdict = self.run("systemd-analyze", "verify", "--man=no", *map(str, units))
        if verdict.returncode:
            self.fail(f"systemd refuses the new units of {self.root.name}: {verdict.stderr.strip()}")

    def fail(self, message: str) -> None:
        """End the task with a sentence for the crew."""
        self.module.fail_json(msg=message)


def try_out(host: Host, files: list[File]) -> None:
    """Write all files beside the live ones, have them checked there, and remove them again."""
    host.root.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=host.root.parent, prefix=f".staged-{host.root.name}-"))
    staged.chmod(0o755)
    try:
        for file in files:
            file.place(staged / file.path)
        host.check(staged)
    finally:
        shutil.rmtree(staged)


def apply(host: Host, files: list[File], changed: list[File], gone: list[str]) -> None:
    """Try out, then put into place what differs. The mark comes first: see `RELOAD_MARK`."""
    try_out(host, files)
    if host.deployed and any(file.reload for file in changed):
        (host.root / RELOAD_MARK).touch(mode=0o600)
    for file in changed:
        file.place(host.target(file.path))
    for path in gone:
        host.target(path).unlink(missing_ok=True)
    host.root.mkdir(mode=0o755, exist_ok=True)
    (host.root / MANIFEST).write_text(json.dumps(sorted(file.path for file in files)))


def outcome(host: Host, changed: list[File], gone: list[str], *, fetch: bool) -> dict[str, Any]:
    """What Ansible reports."""
    diff = [file.diff(host.target(file.path)) for file in changed]
    diff += [{"prepared": f"{host.target(path)}: removed\n"} for path in gone]
    if fetch:
        diff.append({"prepared": f"image {host.image}: fetched\n"})
    return {"changed": bool(changed or gone or fetch), "diff": diff}


def main() -> None:
    """Entry point for Ansible."""
    check = {
        "volumes": {"type": "list", "elements": "str", "default": []},
        "command": {"type": "list", "elements": "str", "required": True},
        "user": {"type": "str", "default": "0"},
    }
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "payload": {"type": "str", "required": True, "no_log": True},
            "image": {"type": "str", "default": ""},
            "bundle": {"type": "path", "default": ""},
            "check": {"type": "dict", "options": check},
        },
        supports_check_mode=True,
    )
    host = Host(module)
    files = [File(**file) for file in json.loads(module.params["payload"])]
    changed = [file for file in files if file.differs(host.target(file.path))]
    gone = stale(host.root, files)
    fetch = bool(host.image) and not host.image_present()
    would_reload = module.check_mode and host.deployed and any(file.reload for file in changed)
    result = outcome(host, changed, gone, fetch=fetch)
    if not module.check_mode:
        if fetch:
            host.fetch_image()
        if changed or gone:
            apply(host, files, changed, gone)
    elif host.has_docker and not fetch and os.geteuid() == 0 and (changed or gone):
        try_out(host, files)
    module.exit_json(
        reload_pending=(host.root / RELOAD_MARK).exists() or would_reload,
        deployed=host.deployed,
        **result,
    )


if __name__ == "__main__":
    main()
