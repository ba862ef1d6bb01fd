package com.aitbc.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.UnknownFieldSet;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/** What every failed call throws. */
public final class AitbcException extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final String code;
  private final String field;
  private final Duration retryDelay;
  private final boolean mayPass;

  private AitbcException(
      String message, String code, String field, Duration retryDelay, boolean mayPass, Throwable cause) {
    super(message, cause);
    this.code = code;
    this.field = field;
    this.retryDelay = retryDelay;
    this.mayPass = mayPass;
  }

  /** The coordinator's {@code error_code}; where none answered, gRPC's, such as {@code UNAVAILABLE}. */
  public String code() {
    return code;
  }

  /** Path of the field that is wrong, such as {@code params.max_tokens}. */
  public Optional<String> field() {
    return Optional.ofNullable(field);
  }

  /** Time after which the same call may succeed. */
  public Optional<Duration> retryDelay() {
    return Optional.ofNullable(retryDelay);
  }

  /** Whether the same call may succeed when it is made again. */
  boolean mayPass() {
    return mayPass;
  }

  /** Returns the error of a stub as one of a client: also for the stubs of other services. */
  public static AitbcException of(StatusRuntimeException error) {
    Status status = error.getStatus();
    String code = status.getCode().name();
    String field = null;
    Duration retryDelay = null;
    com.google.rpc.Status told = StatusProto.fromThrowable(error);
    try {
      for (Any detail : told == null ? List.<Any>of() : told.getDetailsList()) {
        if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryDelay = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        } else if (detail.is(BadRequest.class)) {
          BadRequest bad = detail.unpack(BadRequest.class);
          field = bad.getFieldViolationsCount() > 0 ? bad.getFieldViolations(0).getField() : null;
        } else if (detail.getTypeUrl().endsWith("/google.rpc.ErrorInfo")) {
          code = reason(detail);
        }
      }
    } catch (InvalidProtocolBufferException unreadable) {
      error.addSuppressed(unreadable);
    }
    String message = status.getDescription() == null ? code : status.getDescription();
    return new AitbcException(message, code, field, retryDelay, mayPass(status, retryDelay), error);
  }

  /** Returns the error of a caller that gave up. */
  static AitbcException interrupted(InterruptedException cause) {
    Thread.currentThread().interrupt();
    return new AitbcException("interrupted", Status.Code.CANCELLED.name(), null, null, false, cause);
  }

  private static boolean mayPass(Status status, Duration retryDelay) {
    switch (status.getCode()) {
      case UNAVAILABLE:
        return true;
      case RESOURCE_EXHAUSTED:
        return retryDelay != null;
      default:
        return false;
    }
  }

  /** Reads field 1 of ErrorInfo, which older versions of com.google.rpc do not have. */
  private static String reason(Any info) throws InvalidProtocolBufferException {
    UnknownFieldSet fields = UnknownFieldSet.parseFrom(info.getValue());
    return fields.getField(1).getLengthDelimitedList().get(0).toStringUtf8();
  }
}
