"""`geodistill run`: one file says what goes in; unchanged stages are not run again, a kill resumes inside one.

A reader follows it in this order: `project_file` (what the file says), `stage_table` (which stages there are),
`wiring` (what each takes from the others), `stage_keys` (what its result depends on), `planning` (what is to be run,
and why), `run_project` (running it), and the three files of what each stage calls.
"""
