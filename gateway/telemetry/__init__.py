"""Metrics, the ledger of finished exchanges, and the writing of records."""
