"""What the role brings to a host is all that the program needs there, and what cannot work is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "etcd_backup"


def test_what_the_service_does_not_see_is_refused(tmp_path: Path) -> None:
    hidden = {
        "folder": {"etcd_backup_folder": "/home/jane/backups"},
        "textfile": {"etcd_backup_textfile_folder": "/tmp"},
        "extra": {"etcd_backup_extra_paths": ["/etc/site", "/root/keys", "/var/tmp/x"]},
    }
    seen = {
        "nothing": {},
        "alike": {"etcd_backup_folder": "/homes/x", "etcd_backup_extra_paths": ["/srv/tmp"]},
        "no_timer": {**hidden["folder"], "etcd_backup_timer": False},
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {**hidden, **seen}}}))
    (tmp_path / "group_vars").mkdir()
    shutil.copy(ROLE / "defaults" / "main.yml", tmp_path / "group_vars" / "all.yml")
    copy = {
        "content": "{{ __etcd_backup_problems | to_json }}",
        "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}",
    }
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars" / "main.yml")],
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    argv = ["ansible-playbook", "-i", "hosts.json", "play.yml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = {name: json.loads((tmp_path / name).read_text()) for name in (*hidden, *seen)}
    assert [said[name] for name in seen] == [[]] * 3
    assert [len(said[name]) for name in hidden] == [1] * 3
    assert "sees nothing of /root/keys, /var/tmp/x," in said["extra"][0]


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
