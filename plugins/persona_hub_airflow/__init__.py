"""Airflow-only code. It may import the pure part of the library, never pyspark."""
