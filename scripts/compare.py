#!/usr/bin/env python3
"""Compares what a circuit breaker answered with what the scenarios expect.

usage: compare.py SCENARIOS.jsonl[.gz] ANSWERS.jsonl

ANSWERS holds one JSON object per scenario: {"name": ..., "got": [one object per step]}.
Exit status 0 when every scenario agrees at every step.
"""
import gzip
import json
import sys

FIELDS = ("permitted", "state", "failure_rate", "slow_call_rate",
          "buffered", "failed", "slow", "not_permitted")
RATE_TOLERANCE = 0.01  # percentage points


def lines(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def differs(field, got, expected):
    if field.endswith("_rate"):
        return got is None or abs(got - expected) > RATE_TOLERANCE
    return got != expected


def main(scenarios, answers):
    answered = {a["name"]: a["got"] for a in lines(answers)}
    total = agreed = 0
    for scenario in lines(scenarios):
        total += 1
        got = answered.get(scenario["name"])
        if got is None or len(got) != len(scenario["expect"]):
            print(f"{scenario['name']}: no answer, or not one per step")
            continue
        for i, (g, e) in enumerate(zip(got, scenario["expect"])):
            wrong = [f for f in FIELDS if differs(f, g.get(f), e[f])]
            if wrong:
                print(f"{scenario['name']} step {i} {scenario['steps'][i]}: "
                      + "; ".join(f"{f} is {g.get(f)}, expected {e[f]}" for f in wrong))
                break
        else:
            agreed += 1
    print(f"{agreed} of {total} scenarios agree")
    return 0 if agreed == total and total else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
