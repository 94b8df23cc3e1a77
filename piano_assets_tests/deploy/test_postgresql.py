"""Dagster's log in PostgreSQL: a throwaway server on this machine sees a sweep and the nightly schedule."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import psycopg2
import pytest
import yaml

from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.jobs import nightly_sweep
from piano_assets.defs.status import running
from piano_assets.defs.training import ASSET_NAMES, CONFIGS, batch_config, sweep
from piano_assets_tests.training.tiny import build_store

ROOT = Path(__file__).parents[2]
INSTANCE = ROOT / "deploy" / "postgresql" / "dagster.yaml"
LOGIN = {"DB": "dagster", "USERNAME": "dagster", "PASSWORD": "a p@ss/word"}


def test_it_differs_from_the_projects_own_instance_in_its_storage_alone():
    own, ours = (yaml.safe_load(path.read_text()) for path in (ROOT / "dagster.yaml", INSTANCE))
    assert set(ours.pop("storage")) == {"postgres"}
    assert set(own.pop("storage")) == {"sqlite"}
    assert ours == own


def test_no_password_stands_in_it():
    (settings,) = yaml.safe_load(INSTANCE.read_text())["storage"].values()
    fields = {name: value for name, value in settings["postgres_db"].items() if name != "scheme"}
    assert set(fields) == {"hostname", "port", "db_name", "username", "password"}
    assert all(list(value) == ["env"] for value in fields.values())


def command(name: str) -> str | None:
    """The path of a server command: Debian keeps them beside the PATH."""
    folders = [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    return shutil.which(name, path=os.pathsep.join(folders))


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """A new PostgreSQL server on loopback; the environment variables that name it."""
    initdb, pg_ctl = command("initdb"), command("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed (Debian: apt-get install postgresql)")
    # PostgreSQL refuses to run as root, and whoever it runs as must reach its folder.
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="piano_pg_"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "password").write_text(LOGIN["PASSWORD"])
    if user:
        for path in (folder, folder / "password"):
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)

    def run(*words: str) -> None:
        # Into a file: a server that inherits a pipe keeps it open.
        log = folder.with_suffix(".log")
        with log.open("w") as out:
            done = subprocess.run(words, stdout=out, stderr=out, user=user, cwd="/", timeout=60)
        assert done.returncode == 0, log.read_text()

    data = str(folder / "data")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    try:
        run(initdb, "-D", data, "-U", LOGIN["USERNAME"], "-A", "scram-sha-256", "--pwfile", str(folder / "password"))
        run(pg_ctl, "-D", data, "-w", "-l", str(folder / "server.log"), "-o", options, "start")
        try:
            variables = {**LOGIN, "HOST": "127.0.0.1", "PORT": str(port)}
            with_database = connect({**variables, "DB": "postgres"})
            with_database.autocommit = True
            with_database.cursor().execute(f"CREATE DATABASE {LOGIN['DB']}")
            with_database.close()
            yield {f"DAGSTER_PG_{name}": value for name, value in variables.items()}
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink(missing_ok=True)


def connect(variables: dict[str, str]):
    return psycopg2.connect(
        host=variables["HOST"],
        port=variables["PORT"],
        dbname=variables["DB"],
        user=variables["USERNAME"],
        password=variables["PASSWORD"],
    )


@pytest.fixture
def instance(server, tmp_path, monkeypatch) -> Iterator[dg.DagsterInstance]:
    """The instance that deploy/postgresql describes, its files below the test's folder."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    shutil.copy(INSTANCE, tmp_path)
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        yield found
    assert not list(tmp_path.rglob("*.db")), "something was kept in SQLite"


def test_a_sweep_and_a_night_are_logged_in_postgresql(instance, server, tmp_path):
    build_store(tmp_path / "synthetic")
    piano = PianoData(root=str(tmp_path), corpus="synthetic")
    store = piano.store()
    todo = planner.owed(store, ["family.ridge"], 2)
    assert [t.partition for t in todo] == ["family.ridge|0", "family.ridge|1"]
    instance.add_dynamic_partitions(str(CONFIGS.name), ["family.ridge"])
    done = sweep.execute_in_process(instance=instance, resources={"piano": piano}, run_config=batch_config(todo))
    assert done.success

    with connect({k.removeprefix("DAGSTER_PG_"): v for k, v in server.items()}) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT run_id, pipeline_name, status FROM runs")
        assert cursor.fetchall() == [(done.run_id, "sweep", "SUCCESS")]
    for name in ASSET_NAMES:
        assert instance.get_materialized_partitions(dg.AssetKey(name)) == {"family.ridge|0", "family.ridge|1"}

    def night():
        when = datetime(2026, 11, 1, 2, tzinfo=UTC)
        with dg.build_schedule_context(
            instance=instance, scheduled_execution_time=when, resources={"piano": piano}
        ) as context:
            requests = nightly_sweep(context)
        return [p for r in requests for p in r.run_config["ops"]["train_batch"]["config"]["partitions"]]

    asked = night()
    assert asked
    assert not {t.partition for t in todo} & set(asked), "what stands is not asked for again"
    # A batch that runs elsewhere is known from PostgreSQL alone: the next night leaves it alone.
    first = planner.tasks_of(asked[:1], store)
    instance.create_run_for_job(sweep, run_config=batch_config(first), status=dg.DagsterRunStatus.STARTED)
    assert set(running(store, instance)) == {asked[0]}
    assert sorted(night()) == sorted(asked[1:])
