"""How the tests of the command line run it in process."""

import pytest

from lowerbound.cli.main import main


@pytest.fixture
def told(capsys):
    """Run a command in process; returns exit code, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(list(words))
        out, err = capsys.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 1), out, err

    return run
