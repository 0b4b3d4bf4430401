"""Judges that are vision-language models behind a URL: a yes/no question, a rubric, a checklist, two pictures."""
