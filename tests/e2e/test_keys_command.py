"""Keys are made and revoked by command while the server runs, and count from the next call on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripts.processes import BIN, Coordinator

from tests.conftest import CLEAN_ENV, Launcher
from tests.e2e.jobs import assert_error, final, submit
from tests.e2e.keys import create_key, list_keys, revoke_key, run_keys


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """A coordinator that requires keys."""
    launcher = Launcher(tmp_path_factory.mktemp("closed"))
    yield launcher.coordinator("--auth", "required")
    launcher.close()


def client(coordinator: Coordinator, key: str) -> httpx.Client:
    return httpx.Client(base_url=coordinator.url, headers={"X-Api-Key": key}, timeout=70)


def test_a_key_is_valid_when_its_command_ends_and_refused_when_its_revocation_does(
    closed: Coordinator,
) -> None:
    for _ in range(3):
        key = create_key(closed.data, "client")
        with client(closed, key) as api:
            assert api.get("/v1/jobs").status_code == 200
            revoke_key(closed.data, key)
            refused = api.get("/v1/jobs")
        assert_error(refused, 401, "INVALID_API_KEY", "revoked")
        assert refused.headers["www-authenticate"].startswith("Bearer ")


def test_a_missing_key_and_a_wrong_one_are_told_apart(closed: Coordinator) -> None:
    missing = httpx.get(f"{closed.url}/v1/jobs")
    assert_error(missing, 401, "UNAUTHENTICATED", "X-Api-Key")
    assert missing.headers["www-authenticate"].startswith("Bearer ")
    with client(closed, "your-api-key") as api:
        assert_error(api.get("/api/v1/jobs"), 401, "INVALID_API_KEY", "mistyped")


def test_a_wrong_key_is_refused_where_none_is_needed(coordinator: Coordinator) -> None:
    with client(coordinator, "your-api-key") as api:
        assert_error(api.get("/v1/jobs"), 401, "INVALID_API_KEY")
        assert api.get("/health").status_code == 200


@pytest.mark.parametrize(
    "content",
    [b"{", b'{"prompt": 1}', b"x" * 9_000_000],
    ids=["bad JSON", "bad field", "too large"],
)
def test_a_key_is_looked_at_before_the_body(closed: Coordinator, content: bytes) -> None:
    with client(closed, "wrong") as api:
        assert_error(api.post("/v1/jobs", content=content), 401, "INVALID_API_KEY")


def test_jobs_of_one_key_do_not_exist_for_another(closed: Coordinator) -> None:
    ours, theirs, admins = (create_key(closed.data, role) for role in ("client", "client", "admin"))
    with client(closed, ours) as us, client(closed, theirs) as them, client(closed, admins) as all_:
        job_id = submit(us)
        assert_error(them.get(f"/v1/jobs/{job_id}"), 404, "JOB_NOT_FOUND")
        assert_error(them.post(f"/v1/jobs/{job_id}/cancel"), 404, "JOB_NOT_FOUND")
        assert them.get("/v1/jobs").json().get("jobs", []) == []
        assert all_.get(f"/v1/jobs/{job_id}").status_code == 200
        assert final_after_cancel(us, job_id) == "cancelled"


def final_after_cancel(api: httpx.Client, job_id: str) -> str:
    assert api.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    return str(final(api, job_id)["status"])


def test_a_miner_id_belongs_to_the_key_that_registered_it(closed: Coordinator) -> None:
    first, second = (create_key(closed.data, "miner") for _ in range(2))
    registration = {"miner_id": "owned-1", "capabilities": ["m"]}
    with client(closed, first) as owner, client(closed, second) as other:
        assert owner.post("/v1/miners/register", json=registration).status_code == 201
        refused = other.post("/v1/miners/register", json=registration)
        assert_error(refused, 403, "MINER_NOT_OWNED")
        polled = other.get("/v1/jobs/available", params={"miner_id": "owned-1"})
        assert_error(polled, 403, "MINER_NOT_OWNED")
        assert owner.get("/v1/jobs/available?miner_id=owned-1").status_code == 204
        assert owner.post("/v1/miners/register", json=registration).status_code == 200


def test_a_miner_works_with_its_key_and_stops_when_it_is_revoked(
    launcher: Launcher, closed: Coordinator
) -> None:
    miner_key, client_key = create_key(closed.data, "miner"), create_key(closed.data, "client")
    program = launcher.miner(
        closed, "--api-key", miner_key, miner_id="keyed", models=["keyed-model"]
    )
    with client(closed, client_key) as api:
        assert final(api, submit(api, "keyed-model"))["miner_id"] == "keyed"
        seen = program.line_count()
        revoke_key(closed.data, miner_key)
        # On the open stream: at its next message, or at the next heartbeat.
        program.wait_for_line(r"session\.lost.*was revoked", timeout_s=60, after=seen)


def test_a_key_has_one_role(closed: Coordinator) -> None:
    client_key, miner_key = create_key(closed.data, "client"), create_key(closed.data, "miner")
    with client(closed, client_key) as clients, client(closed, miner_key) as miners:
        registration = {"miner_id": "x", "capabilities": ["m"]}
        refused = clients.post("/v1/miners/register", json=registration)
        assert_error(refused, 403, "PERMISSION_DENIED", "admin or miner", "client")
        refused = miners.post("/v1/jobs", json={"prompt": "hi", "model": "m"})
        assert_error(refused, 403, "PERMISSION_DENIED", "admin or client", "miner")


def test_keys_are_listed_without_their_secret(tmp_path: Path) -> None:
    key = create_key(tmp_path, "client", "--name", "ci", "--expires", "30d")
    revoke_key(tmp_path, create_key(tmp_path, "admin"))
    first, second = list_keys(tmp_path)
    assert (first["role"], first["name"], first["status"]) == ("client", "ci", "active")
    assert first["key_id"] == key.split("_")[1]
    assert first["address"].startswith("ait1")
    assert (second["role"], second["status"]) == ("admin", "revoked")
    table = run_keys("list", data=tmp_path).stdout
    assert table.splitlines()[0].split()[:3] == ["KEY_ID", "ROLE", "NAME"]
    secret = key.split("_")[2]
    assert secret not in table + str(list_keys(tmp_path))
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret.encode() not in stored


def test_a_key_is_given_limits_of_its_own_and_the_next_call_meets_them(
    closed: Coordinator,
) -> None:
    key = create_key(closed.data, "client", "--limit", "requests_per_second=0.01")
    key_id = key.split("_")[1]
    with client(closed, key) as api:
        assert [api.get("/v1/jobs").status_code for _ in range(2)] == [200, 429]
        run_keys("limit", key_id, "requests_per_second=0", "tokens_per_day=9", data=closed.data)
        assert [api.get("/v1/jobs").status_code for _ in range(3)] == [200] * 3
    [listed] = [one for one in list_keys(closed.data) if one["key_id"] == key_id]
    assert listed["limits"] == {"requests_per_second": 0, "tokens_per_day": 9}


def test_a_miners_key_is_given_other_models_and_the_next_call_meets_them(
    closed: Coordinator,
) -> None:
    key = create_key(closed.data, "miner", "--models", "m,code*")
    key_id = key.split("_")[1]

    def listed() -> object:
        return next(one for one in list_keys(closed.data) if one["key_id"] == key_id).get("models")

    def register(api: httpx.Client, model: str) -> httpx.Response:
        registration = {"miner_id": "narrow-1", "capabilities": [model]}
        return api.post("/v1/miners/register", json=registration)

    assert listed() == ["m", "code*"]
    assert "m,code*" in run_keys("list", data=closed.data).stdout
    with client(closed, key) as api:
        assert register(api, "codellama").status_code == 201
        assert_error(register(api, "llama"), 403, "MODEL_NOT_ALLOWED", "'llama'", "keys models")
        assert run_keys("models", key_id, "llama", data=closed.data).exit_code == 0
        assert register(api, "llama").status_code == 200
        assert_error(register(api, "codellama"), 403, "MODEL_NOT_ALLOWED", "'codellama'")
        assert run_keys("models", key_id, "*", data=closed.data).exit_code == 0
        assert register(api, "codellama").status_code == 200
    client_key = create_key(closed.data, "client").split("_")[1]
    assert run_keys("models", client_key, "m", data=closed.data).exit_code == 1


def test_the_last_use_is_stored_when_the_server_stops(launcher: Launcher) -> None:
    server = launcher.coordinator("--auth", "required")
    key = create_key(server.data, "client")
    with client(server, key) as api:
        assert api.get("/v1/jobs").status_code == 200
    assert server.program.terminate() == 0
    [listed] = list_keys(server.data)
    assert listed["last_used"] >= listed["created"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["create", "--role", "root"], "'root' is not one of"),
        (["create", "--role", "client", "--expires", "soon"], "a period such as 30d"),
        (["create", "--role", "client", "--expires", "2020-01-01"], "is over already"),
        (["create", "--role", "client", "--name", "a\nb"], "printable"),
        (["create", "--role", "client", "--limit", "speed=1"], "requests_per_second"),
        (["create", "--role", "client", "--limit", "burst=-1"], "a number from 0"),
        (["create", "--role", "client", "--models", "m"], "only a miner's key names models"),
        (["create", "--role", "miner", "--models", "a,,b"], "is no name of a model"),
        (["create", "--role", "miner", "--models", "a*b"], "any end of a name"),
        (["models", "aaaaaaaaaaaa", "m"], "there is no miner's key 'aaaaaaaaaaaa'"),
        (["limit", "nosuchkey", "burst=1"], "there is no key 'nosuchkey'"),
        (["revoke", "nosuchkey"], "there is no key 'nosuchkey'"),
        (["revoke", "aaaaaaaaaaaa"], "there is no key 'aaaaaaaaaaaa'"),
    ],
)
def test_a_mistake_is_explained(tmp_path: Path, arguments: list[str], problem: str) -> None:
    done = run_keys(*arguments, data=tmp_path)
    assert done.exit_code != 0
    assert problem in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run_keys("list", data=tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "there is no directory" in done.stderr


def test_a_key_can_be_made_while_the_first_server_of_a_directory_starts(tmp_path: Path) -> None:
    command = [str(BIN / "aitbc-coordinator"), "keys", "create", "--role", "client"]
    programs = [
        subprocess.Popen(
            [*command, "--data", str(tmp_path / "new")],
            env={**os.environ, **CLEAN_ENV},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    ended = [(program.communicate(timeout=60), program.returncode) for program in programs]
    assert [code for _, code in ended] == [0] * 3, ended
    assert len(list_keys(tmp_path / "new")) == 3
