"""``clipmill compare A B``: what changed between two runs, versions or datasets; see README.md."""
