"""Test files that train, start processes or draw worlds, each of whose tests may take seconds: all are marked slow."""

SLOW_FILES = (
    "inference/test_memory.py",
    "inference/test_resume.py",
    "label/test_label_docs.py",
    "label/test_resume.py",
    "methods/kda/test_distil.py",
    "methods/maflnet/test_guide.py",
    "methods/maflnet/test_student.py",
    "methods/sep/test_sep_guide.py",
    "papers/reproduce/test_runner.py",
    "test_demo.py",
    "test_documents.py",
    "training/test_ddp.py",
    "training/test_distil.py",
    "training/test_fit.py",
    "training/test_kda.py",
    "training/test_metasegnet_run.py",
    "training/test_resume.py",
    "training/test_run_folder.py",
    "training/test_sep.py",
    "training/test_transfer.py",
)
"""Below tests/. Single slow tests of other files carry the mark themselves."""
