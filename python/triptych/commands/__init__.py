"""One module a command: its configuration, its function, its door from the shell.

What several share: `settings` (keys), `training` (from settings to a Trainer), `tuning`
(what `sft` and `dpo` read), `replay`, `shell` (the terminal) and `stopping` (SIGTERM).
"""
