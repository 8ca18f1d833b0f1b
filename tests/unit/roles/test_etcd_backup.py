"""What the role brings to a host is all that the program needs there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "etcd_backup"


def test_the_program_starts_with_nothing_but_what_the_role_brings(tmp_path: Path) -> None:
    modules = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__etcd_backup_modules"]
    place = tmp_path / "ansible_collections" / "kubewright" / "cluster" / "plugins" / "module_utils"
    place.mkdir(parents=True)
    (tmp_path / "ansible_collections" / "__init__.py").write_text("")
    for name in modules:
        shutil.copy(ROOT / "plugins" / "module_utils" / f"{name}.py", place)
    done = subprocess.run(
        [sys.executable, "-I", ROLE / "files" / "kubewright_backup.py", "--settings", "/nowhere", "list"],
        capture_output=True,
        text=True,
        env={"KUBEWRIGHT_LIBRARY": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "The settings of the backup cannot be read (/nowhere)" in done.stderr
    loaded = subprocess.run(
        [sys.executable, "-I", "-v", ROLE / "files" / "kubewright_backup.py", "--help"],
        capture_output=True,
        text=True,
        env={"KUBEWRIGHT_LIBRARY": str(tmp_path)},
    ).stderr
    assert [name for name in modules if f"module_utils.{name}'" not in loaded] == []
