"""Webhooks: deliveries from the outbox to their receivers."""
