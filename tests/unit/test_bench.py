"""What bench/README.md says was measured is what was measured."""

import json

from bench.report import BEGIN, END, README, RESULTS, markdown


def test_the_tables_are_those_of_the_results() -> None:
    told = README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert told == f"\n{markdown(json.loads(RESULTS.read_text(encoding='utf-8')))}\n"
