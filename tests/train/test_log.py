"""What a terminal shows of a training."""

import io

from rich.console import Console

from lowerbound.train.log import Terminal


def test_the_bar_of_a_run_that_goes_on_starts_where_the_run_is():
    terminal = Terminal()
    terminal.console = Console(file=io.StringIO(), force_terminal=True)
    terminal.event({"event": "resume", "step": 12, "epochs": 4, "steps_per_epoch": 5})
    assert terminal.bar is not None
    [task] = terminal.bar.tasks
    assert (task.completed, task.total, task.description) == (12, 20, "3")
    terminal.tick(3, 4, 5)
    assert task.completed == 14
    terminal.event({"event": "end"})
    assert terminal.bar is None
