"""The report of a run: result.json, and the pages rendered from it."""
