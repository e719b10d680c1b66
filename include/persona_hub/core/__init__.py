"""Pure Python on plain values: no Spark, no Airflow, no network."""
