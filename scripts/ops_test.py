"""Asks a running Prometheus whether it has every metric that rules and dashboard name, and evaluates each expression.

    ops_test.py http://127.0.0.1:9090 ops/prometheus-rules.yml ops/grafana-dashboard.json
"""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# Long enough for the breakers of the gateway to open and close, and for a rate over two scrapes.
PATIENCE = 60
PREFIX = "buttress_"


def ask(server, path, **parameters):
    """The data of an answer of the HTTP API, or an exception with Prometheus' own words."""
    url = f"{server}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error).get("error", error)) from error


def expressions_of(dashboard):
    """All queries of a dashboard, with what Grafana puts into them."""
    found = []

    def walk(value):
        if isinstance(value, dict):
            if isinstance(value.get("expr"), str):
                found.append(value["expr"])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(dashboard)
    substitutes = {"$__rate_interval": "5s", "$job": ".*", "$name": ".*"}
    for variable, value in substitutes.items():
        found = [expression.replace(variable, value) for expression in found]
    return found


def main(server, rules_file, dashboard_file):
    with open(rules_file, encoding="utf-8") as file:
        rules = "\n".join(line for line in file if not line.lstrip().startswith("#"))
    with open(dashboard_file, encoding="utf-8") as file:
        dashboard = json.load(file)
    queries = expressions_of(dashboard)
    named = set(re.findall(rf"\b{PREFIX}\w+", rules + "\n".join(queries)))
    if len(named) < 20:
        sys.exit(f"only {len(named)} names were found: they are looked for in the wrong way")

    missing, silent, deadline = named, queries, time.monotonic() + PATIENCE
    while time.monotonic() < deadline and (missing or silent):
        time.sleep(1)
        try:
            missing = named - set(ask(server, "label/__name__/values"))
            # One that answers nothing may yet: what it filters has not happened so far.
            silent = [query for query in silent if not ask(server, "query", query=query)["result"]]
        except (urllib.error.URLError, ConnectionError):
            continue

    unwell = [
        f"{rule['name']}: {rule.get('lastError')}"
        for group in ask(server, "rules")["groups"]
        for rule in group["rules"]
        if rule["health"] == "err"
    ]
    for what, found in (("not there", missing), ("rule fails", unwell), ("query without an answer", silent)):
        for one in sorted(found):
            print(f"{what}: {one}")
    if missing or unwell or silent:
        sys.exit(1)
    print(f"{len(named)} metrics named, all there; {len(queries)} queries of the dashboard, all answered")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
