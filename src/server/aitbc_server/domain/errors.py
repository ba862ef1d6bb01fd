"""Everything that can go wrong for a caller, as one tree.

    CoordinatorError
    +-- InvalidArgument            a field is wrong; retrying the same request cannot help
    |   +-- ModelNotOffered
    |   +-- TaskNotServed
    |   +-- MinerSignatureRefused
    +-- Unauthenticated            the caller did not say who it is
    |   +-- InvalidApiKey
    +-- PermissionDenied           the caller is known, and may not do this
    |   +-- MinerNotOwned
    |   +-- ModelNotAllowed
    |   +-- ForeignPage
    +-- NotFound
    |   +-- JobNotFound
    |   +-- MinerNotFound
    |   +-- WebhookNotFound
    |   +-- DeliveryNotFound
    |   +-- ReceiptNotFound
    |   +-- FileNotFound
    |   +-- BatchNotFound
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
    |   +-- TooManyFiles
    |   +-- FileInUse
    |   +-- UploadOutOfPlace
    |   +-- TooManyBatches
    |   +-- BatchAlreadyFinal
    +-- Exhausted                  a bounded queue is full; come back later
    |   +-- QueueFull
    |   +-- TooManyWaiting
    |   +-- TooManyCalls
    |   +-- TooMuchUnfinished
    |   +-- RateLimited
    |   +-- TooManyJobs
    |   +-- BudgetExhausted
    |   +-- TooMuchStored
    |   +-- PayloadTooLarge        nothing to wait for: send less at once
    +-- Unavailable                the coordinator cannot serve now; come back later
        +-- Starting
        +-- Draining
        +-- SessionSilent
        +-- MessageTimeout
        +-- StreamOver
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


class TaskNotServed(InvalidArgument):
    """A job asks what none of its model's miners does."""

    reason = "TASK_NOT_SERVED"
    cause = "The miners of the model do not do what the job asks; `detail` says what they do."
    remedy = "Name a model that does: `tasks` of each model in `/v1/stats` says what it takes."


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


class ModelNotAllowed(PermissionDenied):
    """A miner's key does not name the model."""

    reason = "MODEL_NOT_ALLOWED"
    cause = "The miner's key names the models that it may serve, and this one is not among them."
    remedy = (
        "Serve only what the key names, or ask the operator to add the model: "
        "`aitbc-coordinator keys models ID NAME,...`."
    )


class ForeignPage(PermissionDenied):
    """A call without a key that a page of another site may have had a browser make."""

    reason = "FOREIGN_PAGE"
    cause = "Without a key, a call must be for this machine, and from no page of another site."
    remedy = (
        "Send a key, or set `AITBC_ALLOWED_HOSTS` for the host, `AITBC_CORS_ORIGINS` for the site."
    )


class MinerKeyRefused(PermissionDenied):
    """A miner does not come with the key that it registered."""

    reason = "MINER_KEY_REFUSED"
    cause = "The miner's id belongs to another key, or the proof of its key is missing or wrong."
    remedy = (
        "Start it with its own `--key-file`; with `--previous-key-file` where it has a new one. An "
        "administrator can delete its registration."
    )
    message = "this miner_id belongs to another key than the miner has shown"


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


class FileNotFound(NotFound):
    """There is no such file, or it is another owner's."""

    reason = "FILE_NOT_FOUND"
    cause = "No file of the caller has this id: it is mistyped, deleted, or another key's."
    remedy = "List the files with the key that uploaded them."
    message = "no such file"


class BatchNotFound(NotFound):
    """There is no such batch, or it is another owner's."""

    reason = "BATCH_NOT_FOUND"
    cause = "No batch of the caller has this id: it is mistyped, deleted, or another key's."
    remedy = "List the batches with the key that made them."
    message = "no such batch"


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


class MinerInUse(Conflict):
    """A miner that is to be removed works."""

    reason = "MINER_IN_USE"
    cause = "A miner that is to be removed holds its stream or a lease, or is just registering."
    remedy = "Stop its process, wait until its leases end, and remove it then."
    message = "the miner holds its stream or a lease: stop it first"


class TooManyMiners(Conflict):
    """The caller has as many miners as it may."""

    reason = "TOO_MANY_MINERS"
    cause = (
        "The key, or all who call without one together, has as many miner ids as "
        "`AITBC_LIMIT_MINERS` or the key's own limit says."
    )
    remedy = (
        "Remove those that are gone: `DELETE /v1/miners/{miner_id}`; keep a miner's id over its "
        "restarts; or ask the operator for a larger limit."
    )


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


class TooManyFiles(Conflict):
    """The caller has as many files, or as many bytes of them, as it may."""

    reason = "TOO_MANY_FILES"
    cause = "The caller's files are as many, or as large together, as the coordinator takes of one."
    remedy = "Delete files that are not needed; `detail` says which limit is met."


class FileInUse(Conflict):
    """A batch that has not ended reads the file, or writes it."""

    reason = "FILE_IN_USE"
    cause = "A batch that has not ended reads the file."
    remedy = "Cancel the batch, or wait for its end."
    message = "a batch that has not ended reads the file"


class UploadOutOfPlace(Conflict):
    """A part of a file does not follow what the file has."""

    reason = "UPLOAD_OUT_OF_PLACE"
    cause = "The file is finished, or has another number of bytes than the request says."
    remedy = "Ask for the file and go on from its `bytes`, or begin a new one."


class TooManyBatches(Conflict):
    """The caller has as many batches under way as it may."""

    reason = "TOO_MANY_BATCHES"
    cause = "As many of the caller's batches have not ended as the coordinator runs of one."
    remedy = "Wait for the end of one of them, or cancel one."


class BatchAlreadyFinal(Conflict):
    """The batch has ended."""

    reason = "BATCH_ALREADY_FINAL"
    cause = "The batch has ended, and can no longer be cancelled."
    remedy = "Nothing to do: get the batch to see how it ended."


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


class TooManyCalls(Exhausted):
    """A caller, or all callers together, have too many calls or streams under way."""

    reason = "TOO_MANY_CALLS"
    cause = "The key or the network address, or all together, have too many calls under way."
    remedy = "Let some of them end first; submit many jobs with `POST /v1/jobs:batch`."
    message = "too many calls at once"


class TooMuchUnread(Exhausted):
    """A caller reads its answers more slowly than it asks for more."""

    reason = "TOO_MUCH_UNREAD"
    cause = "Large answers to the caller's earlier calls wait to be read."
    remedy = "Read them, then send the request again; ask for smaller pages, or for fewer at once."


class TooMuchUnfinished(Exhausted):
    """A caller's miners have begun more than is taken of messages that have not ended."""

    reason = "TOO_MUCH_UNFINISHED"
    cause = "The sessions of the key's miners have begun too many large messages at once."
    remedy = "Connect again; have fewer miners of one key send large results at the same time."
    message = "too much of messages that have not ended"


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


class TooMuchStored(LimitReached):
    """A caller's jobs take as many bytes as they may."""

    reason = "TOO_MUCH_STORED"
    cause = "What the key's jobs asked and answered takes as many bytes as it may."
    remedy = (
        "Delete jobs that are not needed, `DELETE /v1/jobs/{job_id}`, or ask the operator for "
        "more: `aitbc-coordinator keys limit ID stored_bytes=N`."
    )


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


class MessageTimeout(Unavailable):
    """The message of a gRPC call did not arrive."""

    reason = "MESSAGE_TIMEOUT"
    cause = "The call began, but its message did not arrive whole within the time for it."
    remedy = "Send the message at once, or less of it."
    message = "the message did not arrive in time"


class StreamOver(Unavailable):
    """A stream that anybody may open has lasted as long as it may."""

    reason = "STREAM_OVER"
    cause = "A public stream has lasted as long as it may."
    remedy = "Open it again; a stream with ids of events goes on from `Last-Event-ID`."
    message = "the stream has lasted as long as it may: open it again"


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
