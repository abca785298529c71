"""Render a service's whole folder of templates on the controller and send it in one round trip."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

REPOSITORY = Path(__file__).resolve().parents[2]
# What a source tree has for its developers, not for the host.
NOT_SHIPPED = {"tests", "__pycache__", "README.md", "requirements.in"}


def digest(contents: dict[str, str]) -> str:
    """Short name for the contents of some files, path and text."""
    text = json.dumps(sorted(contents.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def tree(folder: Path) -> dict[str, str]:
    """Text of the files of a source tree that ships, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not NOT_SHIPPED.intersection(relative.parts) and path.suffix != ".pyc":
            found[str(relative)] = path.read_text()
    return found


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible ships no types
    """`service_files`: see the module of the same name for what happens on the host."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render, hash, and hand over to the module."""
        super().run(tmp, task_vars)
        args = self._task.args.copy()
        service, owner = args.pop("service"), int(args.pop("owner"))
        reload, secret, live = args.pop("reload", []), args.pop("secret", []), args.pop("live", [])
        build = args.pop("build", "")
        variables = dict(task_vars or {})

        templates = {
            path.relative_to(REPOSITORY / "roles" / service / "templates").with_suffix(""): path
            for path in sorted((REPOSITORY / "roles" / service / "templates").rglob("*.j2"))
        }
        source = tree(REPOSITORY / build) if build else {}
        variables["service_build"] = digest(source)
        compose = templates.pop(Path("compose.yml"), None)
        rendered = {str(name): self._render(path, variables) for name, path in templates.items()}
        # In the fragment as a label: Compose replaces the container exactly when this changes.
        needs_restart = {k: v for k, v in rendered.items() if k not in {*reload, *live}}
        variables["service_config"] = digest(needs_restart)
        if compose:
            rendered["compose.yml"] = self._render(compose, variables)

        files = [self._file(name, text, owner, reload, secret) for name, text in rendered.items()]
        files += [self._file(f"build/{name}", text, 0, [], []) for name, text in source.items()]
        arguments = {"payload": json.dumps(files), **args}
        result: dict[str, Any] = self._execute_module("service_files", arguments, task_vars=task_vars)
        result.pop("invocation", None)
        return result

    def _render(self, path: Path, variables: dict[str, Any]) -> str:
        """Text of one template; an error names the file."""
        template = trust_as_template(path.read_text())
        search = [str(path.parent), str(REPOSITORY)]
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=variables)
        overrides = {"trim_blocks": True, "lstrip_blocks": True}
        try:
            text: str = templar.template(template, escape_backslashes=False, overrides=overrides)
        except AnsibleError as error:
            raise AnsibleActionFail(f"{os.path.relpath(path, REPOSITORY)}: {error}") from error
        return text if text.endswith("\n") else text + "\n"

    @staticmethod
    def _file(path: str, content: str, owner: int, reload: list[str], secret: list[str]) -> dict[str, Any]:
        """One entry of the module's payload. Only the service itself can read a secret."""
        # Compose reads the fragment and the environment files as root.
        root = path == "compose.yml" or path.endswith(".env")
        return {
            "path": path,
            "content": content,
            "mode": 0o600 if path in secret else 0o644,
            "owner": 0 if root else owner,
            "reload": path in reload,
            "secret": path in secret,
        }
