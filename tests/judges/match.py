#!/usr/bin/env python3
"""Which of the patterns match each event, by moto's opinion: `{"patterns": {name: pattern}, "events": [...]}` comes in,
one list of names per event goes out. Run by tests/tests/events with the Python that `tests/run` prepares."""

import json
import sys

from moto.events.models import EventPattern


def main():
    asked = json.load(sys.stdin)
    patterns = {name: EventPattern.load(json.dumps(pattern)) for name, pattern in asked["patterns"].items()}
    json.dump([[name for name, one in patterns.items() if one.matches_event(event)] for event in asked["events"]], sys.stdout)


if __name__ == "__main__":
    main()
