"""A plugin of pytest that says at the end which copy of the package the tests ran."""

import sys


def pytest_terminal_summary(terminalreporter):
    package = sys.modules.get("lowerbound")
    terminalreporter.write_line(f"lowerbound is {package and package.__file__}")
