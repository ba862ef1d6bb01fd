"""What clients/SCENARIO.md says, step by step."""

from __future__ import annotations

import json
import os
from pathlib import Path

from aitbc_client import AitbcError, Client, Connection, EventType

COORDINATOR, MODEL = os.environ["AITBC_COORDINATOR"], os.environ["AITBC_MODEL"]
SHORT, NOWHERE = "One two three", "served-by-nobody"
LONG = " ".join(["Grüße aus 東京, 🙂!"] * 60)


def main() -> None:
    """Does every step."""
    client = connect(os.environ["AITBC_API_KEY"])
    submitted = client.submit(SHORT, model=MODEL, request_id="scenario")
    say(step="submit", status=status(submitted.status))
    job = client.wait(submitted.job_id)
    say(step="wait", status=status(job.status), result=job.result)
    again = client.submit(SHORT, model=MODEL, request_id="scenario")
    say(step="same request id", is_same_job=again.job_id == submitted.job_id)
    refused(
        "request id of another",
        lambda: client.submit("another", model=MODEL, request_id="scenario"),
    )
    stream(client, client.submit(LONG, model=MODEL).job_id)
    say(step="list", prompts=[job.prompt[:5] for job in client.jobs(model=MODEL)])
    unserved = client.submit(SHORT, model=NOWHERE).job_id
    refused("deadline", lambda: client.wait(unserved, 0.3))
    say(step="cancel", status=status(client.cancel(unserved).status))
    refused("cancel again", lambda: client.cancel(unserved))
    refused("bad request", lambda: client.submit(SHORT, model=MODEL, params={"max_tokens": 0}))
    refused("wrong key", lambda: connect("wrong").get(submitted.job_id))
    spent = connect(os.environ["AITBC_SPENT_KEY"])
    refused("spent key", lambda: spent.submit(SHORT, model=MODEL))


def stream(client, job_id):
    """Reads a job while the coordinator is killed, and once more from the middle."""
    first, text, restarts, job = None, "", 0, None
    for event in client.stream(job_id):
        if event.type is EventType.DELTA:
            if first is None:
                first = event
                say(step="first delta")
            text += event.text
        restarts += event.type is EventType.RESTARTED
        job = event.job
    say(step="stream", is_whole=text == LONG, restarts=restarts, status=status(job.status))
    rest = [event.text or "" for event in client.stream(job_id, first.event_id)]
    say(step="rest of the stream", is_whole=first.text + "".join(rest) == LONG)


def connect(key):
    """Returns a client with a key."""
    ca = Path(os.environ["AITBC_TLS_CA"])
    return Client(Connection(target=COORDINATOR, tls_ca=ca, api_key=key))


def status(value):
    """Returns it as gRPC names it."""
    return f"JOB_STATUS_{value.name}"


def refused(step, call):
    """Prints the error of a call that must fail."""
    try:
        call()
    except AitbcError as error:
        told = {"error_code": error.error_code, "has_delay": error.retry_after_s is not None}
        if error.field:
            told["field"] = error.field
        say(step=step, **told)
    else:
        raise SystemExit(f"{step}: no error")


def say(**line):
    """Prints a line."""
    print(json.dumps(line), flush=True)


main()
