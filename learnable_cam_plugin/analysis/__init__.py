"""Why was it wrong? Maps of both classes, tests of what they show, a cause, and a report."""
