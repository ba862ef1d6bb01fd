"""Everything that can go wrong for a caller, as one tree.

    CoordinatorError
    +-- InvalidArgument            a field is wrong; retrying the same request cannot help
    |   +-- ModelNotOffered
    |   +-- MinerSignatureRefused
    +-- Unauthenticated            the caller did not say who it is
    |   +-- InvalidApiKey
    +-- PermissionDenied           the caller is known, and may not do this
    |   +-- MinerNotOwned
    +-- NotFound
    |   +-- JobNotFound
    |   +-- MinerNotFound
    |   +-- WebhookNotFound
    |   +-- DeliveryNotFound
    |   +-- ReceiptNotFound
    |   +-- BlockNotFound
    |   +-- TransactionNotFound
    +-- Conflict                   the object is in another state than the request needs
    |   +-- JobAlreadyFinal
    |   +-- JobNotFinal
    |   +-- JobAlreadyClaimed
    |   +-- MinerDrained
    |   +-- LeaseLost
    |   +-- IdempotencyKeyReused
    |   +-- SessionSuperseded
    |   +-- TooManyWebhooks
    |   +-- WebhookDisabled
    |   +-- ReceiptNotSealed
    +-- Exhausted                  a bounded queue is full; come back later
    |   +-- QueueFull
    |   +-- TooManyWaiting
    |   +-- RateLimited
    |   +-- TooManyJobs
    |   +-- BudgetExhausted
    |   +-- PayloadTooLarge        nothing to wait for: send less at once
    +-- Unavailable                the coordinator cannot serve now; come back later
        +-- Starting
        +-- Draining
        +-- SessionSilent
        +-- StorageUnavailable
            +-- StorageBusy        its queue is full

Each leaf has a `reason` in UPPER_SNAKE, which is the `error_code` of the REST API and the
`ErrorInfo.reason` of gRPC; `cause` and `remedy` are printed in the reference of error codes.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class CoordinatorError(Exception):
    """Base of all errors that a caller is told about. `str(error)` is a sentence for people."""

    reason: ClassVar[str]
    cause: ClassVar[str]
    remedy: ClassVar[str]
    # Sentence used when the raise site has nothing more exact to say.
    message: ClassVar[str] = ""

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.message)
        # Seconds after which the same request may succeed.
        self.retry_after_s = retry_after_s


class InvalidArgument(CoordinatorError):
    """A field of the request is wrong."""

    reason = "INVALID_ARGUMENT"
    cause = "A field is missing, unknown, of the wrong type or out of range; `detail` names it."
    remedy = "Correct the field and send the request again."

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        # Path of the field, such as `params.max_tokens` or `jobs[3].model`.
        self.field = field
        self.problem = problem


class ModelNotOffered(InvalidArgument):
    """A miner asks for a job whose model it does not serve."""

    reason = "MODEL_NOT_OFFERED"
    cause = "The job's model is not among the miner's capabilities."
    remedy = "Register the miner with that model, or claim a job from `/v1/jobs/available`."


class MinerSignatureRefused(InvalidArgument):
    """A miner with a key delivers a result without its signature, or with a wrong one."""

    reason = "MINER_SIGNATURE_REFUSED"
    cause = "The miner has registered a key, and its signature of the result is missing or wrong."
    remedy = "Sign the statement as the description of formats says, and send it as `receipt`."


class Unauthenticated(CoordinatorError):
    """The caller did not say who it is."""

    reason = "UNAUTHENTICATED"
    cause = "The call needs an API key, and the request has none."
    remedy = "Send the key as `X-Api-Key` or `Authorization: Bearer` (gRPC metadata `x-api-key`)."
    message = "an API key is required: send it as X-Api-Key"


class InvalidApiKey(Unauthenticated):
    """The key that came with the call is not valid."""

    reason = "INVALID_API_KEY"
    cause = "The API key is mistyped, unknown, revoked or expired; `detail` says what is known."
    remedy = "Correct the key, or ask the operator for a new one: `aitbc-coordinator keys create`."
    message = "the API key is not valid"


class PermissionDenied(CoordinatorError):
    """The caller is known, and may not do this."""

    reason = "PERMISSION_DENIED"
    cause = "The key has another role than the call needs; `detail` names the role."
    remedy = "Use a key of that role: `aitbc-coordinator keys create --role ...`."


class MinerNotOwned(PermissionDenied):
    """The miner id belongs to somebody else."""

    reason = "MINER_NOT_OWNED"
    cause = "The miner_id belongs to another key: the one that registered it first."
    remedy = "Use the key that the miner registered with, or choose another miner_id."
    message = "this miner_id belongs to another key"


class NotFound(CoordinatorError):
    """The object does not exist, or is not the caller's."""


class JobNotFound(NotFound):
    """No such job."""

    reason = "JOB_NOT_FOUND"
    cause = "No job of the caller has this id, or has it no more: it was deleted, or is too old."
    remedy = "Use the `job_id` that the submit returned."
    message = "Job not found"


class MinerNotFound(NotFound):
    """No such miner."""

    reason = "MINER_NOT_FOUND"
    cause = "No miner has registered under this id."
    remedy = "Register the miner first: `POST /v1/miners/register`."
    message = "Miner not found"


class WebhookNotFound(NotFound):
    """No such webhook."""

    reason = "WEBHOOK_NOT_FOUND"
    cause = "No webhook of the caller has this id."
    remedy = "Use the `webhook_id` that the registration returned, or one from `GET /v1/webhooks`."
    message = "Webhook not found"


class DeliveryNotFound(NotFound):
    """No such delivery."""

    reason = "DELIVERY_NOT_FOUND"
    cause = "The webhook has no delivery of this id, or has one no more: old ones are dropped."
    remedy = "List the webhook's deliveries."
    message = "Delivery not found"


class ReceiptNotFound(NotFound):
    """No such receipt."""

    reason = "RECEIPT_NOT_FOUND"
    cause = "No receipt has this id: jobs have one from the moment they are completed."
    remedy = "Use the `receipt_id` of a completed job."
    message = "Receipt not found"


class BlockNotFound(NotFound):
    """No such block."""

    reason = "BLOCK_NOT_FOUND"
    cause = "The ledger has no block of this height yet."
    remedy = "List the blocks: `GET /explorer/blocks`."
    message = "Block not found"


class TransactionNotFound(NotFound):
    """No such transaction."""

    reason = "TRANSACTION_NOT_FOUND"
    cause = "The ledger has no transaction of this hash."
    remedy = "Use the `leaf_hash` of a receipt, or list the transactions."
    message = "Transaction not found"


class Conflict(CoordinatorError):
    """The object is in another state than the request needs."""


class JobAlreadyFinal(Conflict):
    """The job has ended."""

    reason = "JOB_ALREADY_FINAL"
    cause = "The job is completed, failed or cancelled already."
    remedy = "Get the job to see how it ended; submit another one to run it again."


class JobNotFinal(Conflict):
    """The job may still change."""

    reason = "JOB_NOT_FINAL"
    cause = "A job that is pending or running was to be deleted."
    remedy = "Cancel it first: `POST /v1/jobs/{job_id}/cancel`; or wait until it ends."
    message = "the job has not ended yet: cancel it first"


class JobAlreadyClaimed(Conflict):
    """Another miner holds the job."""

    reason = "JOB_ALREADY_CLAIMED"
    cause = "A miner holds a lease on the job."
    remedy = "Claim another job from `/v1/jobs/available`."


class MinerDrained(Conflict):
    """A miner that is drained asks for work."""

    reason = "MINER_DRAINED"
    cause = "An administrator drains the miner: it may finish what it holds, and take nothing new."
    remedy = "Ask again later; an administrator ends it with `POST /v1/miners/{miner_id}/resume`."
    message = "the miner is being drained"


class LeaseLost(Conflict):
    """The miner does not hold the lease under which it writes."""

    reason = "LEASE_LOST"
    cause = "The lease expired, ended, or belongs to another miner; nothing was changed."
    remedy = "Drop the work. The job was given to another miner, or is final."


class IdempotencyKeyReused(Conflict):
    """One idempotency key came with two different requests."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    cause = "The `Idempotency-Key` was used before with another request body."
    remedy = "Use a new key for a new request."
    message = "this idempotency key was used before with another request"


class SessionSuperseded(Conflict):
    """A newer session of the same miner began."""

    reason = "SESSION_SUPERSEDED"
    cause = "Another Work stream said Hello with the same miner_id."
    remedy = "Run one process for each miner_id."
    message = "a newer session of this miner began"


class TooManyWebhooks(Conflict):
    """The caller has as many webhooks as it may."""

    reason = "TOO_MANY_WEBHOOKS"
    cause = "The caller has as many webhooks as the coordinator was configured to take of one."
    remedy = "Delete one that is not needed; one webhook can hear of every event."


class WebhookDisabled(Conflict):
    """The webhook is sent nothing now."""

    reason = "WEBHOOK_DISABLED"
    cause = "The webhook is disabled, by its owner or because its receiver answered 410."
    remedy = 'Enable it: `PATCH /v1/webhooks/{webhook_id}` with `{"enabled": true}`.'
    message = "the webhook is disabled"


class ReceiptNotSealed(Conflict):
    """The receipt is in no block yet."""

    reason = "RECEIPT_NOT_SEALED"
    cause = "The receipt is stored and signed, but its block is not sealed yet."
    remedy = "Wait for the seconds in `Retry-After` and ask again."
    message = "the receipt's block is not sealed yet"


class Quota(NamedTuple):
    """A limit that a caller has used up."""

    name: str
    size: int
    # Seconds in which it is given anew; None for what is held rather than used.
    window_s: int | None = None


class Exhausted(CoordinatorError):
    """A bounded queue is full, or a caller has used up what it may."""

    # The caller's limit, where that is the reason.
    quota: Quota | None = None


class QueueFull(Exhausted):
    """Too many jobs wait."""

    reason = "QUEUE_FULL"
    cause = "The coordinator holds as many pending jobs as it was configured to."
    remedy = "Wait for the seconds in `Retry-After` and send the request again."
    message = "too many jobs are waiting"


class TooManyWaiting(Exhausted):
    """Too many calls wait for the end of a job."""

    reason = "TOO_MANY_WAITING"
    cause = "As many calls wait for the end of a job as the coordinator takes at once."
    remedy = "Get the job without `wait`, now and then, or register a webhook."
    message = "too many calls are waiting for the end of a job"


class LimitReached(Exhausted):
    """A caller has used up what it may."""

    def __init__(
        self, message: str | None = None, *, quota: Quota | None = None, retry_after_s: float = 1
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.quota = quota


class RateLimited(LimitReached):
    """A caller makes too many calls."""

    reason = "RATE_LIMITED"
    cause = "The key, or without one the network address, makes more calls a second than it may."
    remedy = "Wait for the seconds in `Retry-After`; submit many jobs with `POST /v1/jobs:batch`."


class TooManyJobs(LimitReached):
    """A caller has too many jobs that are not final."""

    reason = "TOO_MANY_JOBS"
    cause = "The key, or without one the network address, has as many unfinished jobs as it may."
    remedy = "Wait until some of them are final, or cancel some; then send the request again."


class BudgetExhausted(LimitReached):
    """A key has used up its day's budget."""

    reason = "BUDGET_EXHAUSTED"
    cause = "The key has used up the jobs or the tokens that it may use in a day (UTC)."
    remedy = "Wait for the seconds in `Retry-After`, or ask the operator for a larger budget."


class PayloadTooLarge(Exhausted):
    """The request is larger than the server takes of this caller."""

    reason = "PAYLOAD_TOO_LARGE"
    cause = "The request is larger than the server takes, or than this key may send."
    remedy = "Send less at once; split a batch."

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the request must be at most {max_bytes} bytes")


class Unavailable(CoordinatorError):
    """The coordinator cannot serve now."""


class Starting(Unavailable):
    """The coordinator is not ready yet."""

    reason = "STARTING"
    cause = "The coordinator is starting."
    remedy = "Wait for the seconds in `Retry-After` and send the request again."
    message = "the coordinator is starting"


class Draining(Unavailable):
    """The coordinator is about to stop."""

    reason = "DRAINING"
    cause = "The coordinator is shutting down and takes nothing new."
    remedy = "Wait for the seconds in `Retry-After` and send the request again."
    message = "the coordinator is draining"


class SessionSilent(Unavailable):
    """Nothing was heard from a miner."""

    reason = "SESSION_SILENT"
    cause = "The miner sent nothing on its Work stream for as long as a lease lasts."
    remedy = "Reconnect, present the held leases, and send a Heartbeat when there is no news."
    message = "nothing was heard from the miner"


class StorageUnavailable(Unavailable):
    """The store cannot write or read."""

    reason = "STORAGE_UNAVAILABLE"
    cause = "The database cannot be written or read: its disk may be full or read-only."
    remedy = "Retry later; the operator finds the cause in the log."
    message = "the coordinator cannot reach its storage"


class StorageBusy(StorageUnavailable):
    """More waits for the store than it may."""

    reason = "STORAGE_BUSY"
    cause = "More requests arrive than the disk takes; those that wait already go first."
    remedy = "Wait for the seconds in `Retry-After`, send again, and submit in batches."
    message = "too much is waiting for the storage"
