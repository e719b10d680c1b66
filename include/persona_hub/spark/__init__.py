"""Spark at the rim: sessions, tables, and the wiring of the pure rooms into stages."""
