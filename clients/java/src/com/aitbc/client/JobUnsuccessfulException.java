package com.aitbc.client;

import com.aitbc.v1.Job;

/** A job ended without a result. */
public final class JobUnsuccessfulException extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final transient Job job;

  JobUnsuccessfulException(Job job) {
    super(job.getJobId() + " has no result: " + job.getError().getMessage() + " (" + job.getError().getCode() + ")");
    this.job = job;
  }

  /** The job, failed or cancelled. */
  public Job job() {
    return job;
  }
}
