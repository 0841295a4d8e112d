"""Examples of every command, shown on top of its help.

Rule: one table, whose rows a test runs through the commands' own parsers. EDGE_SYNC_STORE and EDGE_SYNC_KEYS are set.
"""

from __future__ import annotations

import click

EXAMPLES: dict[str, tuple[str, ...]] = {
    "keys": (
        "edge-sync keys init --root root.json     keys for every role, and an empty store",
        "edge-sync keys show                      whose signatures end when",
    ),
    "keys init": (
        "edge-sync keys init --store /srv/models --keys ~/edge-keys --root root.json",
        "edge-sync keys init --passphrase-file ~/passphrase     private keys encrypted at rest",
    ),
    "keys rotate": (
        "edge-sync keys rotate rollouts     an online key, after its host was lost",
        "edge-sync keys rotate root         needs the old keys of root too",
    ),
    "keys show": ("edge-sync keys show", "edge-sync keys show --json"),
    "publish": (
        "edge-sync publish models/detector/17 --name detector --version 17",
        "edge-sync publish build/tpu --name detector --version 17 --variant edgetpu --accel edgetpu --priority 30",
        "edge-sync publish models/detector/18 --name detector --version 18 --dry-run     what devices would fetch",
    ),
    "withdraw": (
        "edge-sync withdraw detector 12 13                  nobody can roll them out any more; gc frees their bytes",
        "edge-sync withdraw detector --keep 5 --dry-run     all but five, of those that no rollout names",
    ),
    "rollout": (
        "edge-sync rollout start detector 17 --group line-3 --percent 10     a tenth of the group",
        "edge-sync rollout start detector 17 --group line-3 --percent 50     half of it, that tenth included",
        "edge-sync rollout promote detector --group line-3                   all of it, from now on",
        "edge-sync rollout rollback detector --group line-3                  everybody back",
    ),
    "rollout start": (
        "edge-sync rollout start detector 17 --group line-3 --ring canary --percent 0",
        "edge-sync rollout start detector 17 --group line-3 --percent 10 --window 22:00-05:00",
        "edge-sync rollout start detector 17 --probation 10m --min-requests 50 --max-error-rate 0.02",
    ),
    "rollout status": (
        "edge-sync rollout status --group line-3",
        "edge-sync rollout status --group line-3 --reports /srv/reports     with how many devices are where",
    ),
    "rollout pause": ("edge-sync rollout pause detector --group line-3",),
    "rollout resume": ("edge-sync rollout resume detector --group line-3",),
    "rollout promote": ("edge-sync rollout promote detector --group line-3",),
    "rollout rollback": ("edge-sync rollout rollback detector --group line-3",),
    "rollout pin": ("edge-sync rollout pin camera-7 detector 16 --group line-3",),
    "rollout unpin": ("edge-sync rollout unpin camera-7 detector --group line-3",),
    "rollout nudge": (
        "edge-sync rollout nudge --group line-3 --mqtt-host broker.example",
        "edge-sync rollout nudge --device camera-7 --mqtt-host broker.example --mqtt-ca-file ca.pem",
    ),
    "agent": (
        "edge-sync agent run --config /etc/edge/edge-sync.toml        for as long as the device is on",
        "edge-sync agent status --config /etc/edge/edge-sync.toml     what it is doing, in plain words",
    ),
    "agent run": (
        "edge-sync agent run --config /etc/edge/edge-sync.toml",
        "edge-sync agent run --config agent.toml --set poll.every_s=60",
    ),
    "agent once": (
        "edge-sync agent once --config agent.toml --within 600",
        "edge-sync agent once --config agent.toml --json     what came of it, as `agent status --json` has it",
    ),
    "agent status": ("edge-sync agent status --config agent.toml", "edge-sync agent status --config agent.toml --json"),
    "agent doctor": ("edge-sync agent doctor --config agent.toml",),
    "config": (
        "edge-sync config check --config /etc/edge/edge-sync.toml     all that is wrong, each with its file and line",
        "edge-sync config show --origin                               every setting, and who set it",
    ),
    "config check": ("edge-sync config check --config agent.toml --set poll.every_s=60",),
    "config show": ("edge-sync config show --origin --config agent.toml", "edge-sync config show --json"),
    "completion": (
        "edge-sync completion bash     for ~/.local/share/bash-completion/completions/edge-sync",
        "edge-sync completion zsh      for _edge-sync in a directory of $fpath, before compinit",
        "edge-sync completion fish     for ~/.config/fish/completions/edge-sync.fish",
    ),
    "refresh": (
        "edge-sync refresh                                       once: from cron, or by hand",
        "edge-sync refresh --every 12h                           a service that sees to it",
        "edge-sync refresh --also releases --also targets        where the offline keys lie",
    ),
    "verify": (
        "edge-sync verify https://models.example/ --root root.json",
        "edge-sync verify /srv/models --root root.json --no-blobs --soon 2d     quick, for a monitor",
    ),
    "mirror": (
        "edge-sync mirror https://models.example/ /media/stick --root root.json",
        "edge-sync mirror /media/stick /srv/models --root root.json     at a site without a network",
    ),
    "gc": ("edge-sync gc --dry-run", "edge-sync gc --grace 7d --keep 30d"),
    "collect": (
        "edge-sync collect --listen 127.0.0.1:8700 --dir /srv/reports     behind a proxy that speaks TLS",
        "edge-sync collect --listen 0.0.0.0:8700 --dir /srv/reports --token-file /etc/edge/report-token",
        "edge-sync collect --mqtt-host broker.example --dir /srv/reports     what devices tell a broker",
    ),
}


def with_examples(command: click.Command, path: str) -> click.Command:
    """The command, and those below it, with their examples on top of what they say of themselves. path: its name, from `edge-sync` on."""
    examples = EXAMPLES.get(path)
    if examples is not None and not (command.help or "").startswith("\b"):
        command.short_help = command.get_short_help_str(limit=80)
        command.help = "\b\nExamples:\n" + "".join(f"  {each}\n" for each in examples) + "\n" + (command.help or "")
    for name, inner in getattr(command, "commands", {}).items():
        with_examples(inner, f"{path} {name}")
    return command
