"""The five papers' published tables: what they print, how their rows are run, and what cannot be right in them.

Nothing outside this folder imports it; verbs load what they need of it by name (`geodistill.lazy.load`).

* Declarations: ``tables/`` (the rows of each paper with their printed figures), ``table`` (what a table is),
  ``registry`` (tables by name, such as ``ktda/II``).
* The verb ``geodistill reproduce``: ``command``.
* The runner, ``reproduce/``: ``planner`` (a row as runs), ``smoke`` (the tiny form of a run), ``table_data`` (sets and
  weights), ``row_scores`` (one run), ``prompt_table`` (SAMRS's table of prompts), ``board`` (the table while it runs),
  ``runner`` (all of it), ``result_table`` (our figures beside the paper's), ``pictures`` (with ``feature_maps``),
  ``listing`` (``--list``).
* Checks: ``sanity`` (arithmetic that figures have to keep), ``padding`` (a published fault, on request),
  ``kda_decoders`` (the decoders of KDA's Table IV, counted).
"""
