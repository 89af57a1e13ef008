"""One result as a file: its record, its place, and whether it follows from its outcomes."""

from __future__ import annotations

from ecgbench.results.published import Published, find, place, publish, read_published, read_results, slug
from ecgbench.results.record import SCHEMA, Cost, Provenance, Record, read_record, schema
from ecgbench.results.verification import strays, verify

__all__ = [
    "SCHEMA",
    "Cost",
    "Provenance",
    "Published",
    "Record",
    "find",
    "place",
    "publish",
    "read_published",
    "read_record",
    "read_results",
    "schema",
    "slug",
    "strays",
    "verify",
]
