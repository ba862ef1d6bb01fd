"""What operators see of the coordinator: metrics, health, traces and the journal of jobs."""
