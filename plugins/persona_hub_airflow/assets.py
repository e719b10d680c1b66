"""What one DAG announces and another follows, under the same slice key."""

from __future__ import annotations

from airflow.sdk import Asset

PERSONAS = Asset("personas")
