"""Gates: Great Expectations suites, derived from the tables' descriptions."""
