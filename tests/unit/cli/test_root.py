import os
import subprocess
import sys

import click
import pytest

from edge.cli import exits, root
from tests.unit.cli.conftest import Run


def test_help_leads_with_examples_and_lists_every_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert out.index("Examples:") < out.index("Commands:")
    assert all(f"\n  {name} " in out for name in root.COMMANDS)


@pytest.mark.parametrize("command", root.COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage: edge " + command in out


def test_a_command_that_is_nearly_right_is_asked_back(run: Run) -> None:
    code, out, err = run("serv")
    assert (code, out) == (exits.USAGE, "")
    assert "did you mean 'serve'?" in err


def test_an_option_that_is_nearly_right_is_asked_back(run: Run) -> None:
    code, _, err = run("serve", "--prot", "1")
    assert code == exits.USAGE
    assert "--port" in err


def test_the_version_is_said_for_people_and_for_programs(run: Run) -> None:
    assert run("--version")[1].startswith("edge ")
    assert '"python": "3.' in run("version", "--json")[1]
    assert "python 3." in run("version")[1]


def test_an_interrupt_leaves_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(root.LazyGroup, "get_command", lambda *_: interrupted)
    assert run("health")[0] == exits.INTERRUPTED


def test_a_quick_command_imports_nothing_slow() -> None:
    code = (
        "import sys\nfrom edge.cli import main\n"
        "try: main(['health', '--url', '127.0.0.1:1'])\n"
        "except SystemExit as left: assert left.code == 4, left.code\n"
        "slow = {'numpy', 'aiohttp', 'msgspec', 'prometheus_client', 'asyncio'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
