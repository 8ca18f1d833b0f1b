"""What is fetched is what was saved, or nothing is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_bundle as bundle
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import Snapshot
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _backup_fetch as fetching

NOON = 1795348800.0


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PIECE", 700)


def far(folder: Path, name: str = "lab-20261122T120000Z.tar", size: int = 5000) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(bytes(number % 251 for number in range(size)))
    snapshot = Snapshot("snapshot.db", 3, "cd", saved_at=name.split(".", maxsplit=1)[0][4:])
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    bundle.write_record(bundle.Backup(str(path), size, sha256, snapshot=snapshot), f"{path}.json")
    return path


def read(path: str, number: int) -> bytes:
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return b""
    return data[number * fetching.PIECE : (number + 1) * fetching.PIECE]


@pytest.mark.parametrize("size", [1, 699, 700, 701, 5000])
def test_it_comes_in_pieces_and_only_once(tmp_path: Path, size: int) -> None:
    path, here = far(tmp_path / "far", size=size), tmp_path / "here"
    assert fetching.fetch(read, str(path), str(here), check_mode=True).changed
    assert not here.exists()
    fetched = fetching.fetch(read, str(path), str(here))
    assert fetched.changed
    assert Path(fetched.path).read_bytes() == path.read_bytes()
    assert here.stat().st_mode & 0o777 == 0o700
    assert not fetching.fetch(read, str(path), str(here)).changed
    Path(fetched.path).write_bytes(b"damaged")
    assert fetching.fetch(read, str(path), str(here)).changed


def test_what_was_damaged_on_its_way_gets_no_name(tmp_path: Path) -> None:
    path, here = far(tmp_path / "far"), tmp_path / "here"

    def worse(name: str, number: int) -> bytes:
        data = read(name, number)
        return data[:-1] + b"!" if number == 3 and not name.endswith(".json") else data

    with pytest.raises(KubewrightError, match="not what was saved"):
        fetching.fetch(worse, str(path), str(here))
    assert list(here.iterdir()) == []


def test_what_has_no_record_is_no_backup(tmp_path: Path) -> None:
    path = far(tmp_path / "far")
    Path(f"{path}.json").unlink()
    with pytest.raises(KubewrightError, match="no backup to fetch"):
        fetching.fetch(read, str(path), str(tmp_path / "here"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("a file")
    with pytest.raises(KubewrightError, match="cannot be kept on the controller"):
        fetching.fetch(read, str(far(tmp_path / "far")), str(tmp_path / "here"))


def test_old_ones_go_with_their_records(tmp_path: Path) -> None:
    names = [f"lab-202611{day}T120000Z.tar" for day in (19, 20, 22)]
    for name in names:
        far(tmp_path, name)
    # What fetches that were killed left; the newest may be another one's that goes on.
    going_on = tmp_path / f".{names[2]}.part"
    for left in (f".{names[0]}.part", f".{names[1]}.json.part", going_on.name):
        (tmp_path / left).touch()
    gone = fetching.prune(str(tmp_path), "lab", keep=1, keep_days=0, now=NOON)
    assert [Path(one).name for one in gone] == names[:2]
    assert sorted(one.name for one in tmp_path.iterdir()) == [going_on.name, names[2], f"{names[2]}.json"]
